"""What would run, what is reused, and why."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.fingerprint import describe_changes, fingerprint
from pipeline.run_dir import CHECKPOINT, INT8_FILE, KEPT, RunDir, StageRecord
from pipeline.settings.stage_names import STAGES, StageName
from pipeline.settings.target import WidthBudget
from pipeline.widths import CUTTING_STAGES, cutting_stage, plan_path
from reid.files import hash_file, write_json

BEGUN_FILE = "begun.json"
# Inputs that settings name.
PRETRAINED, PLAN = "pretrained", "plan"
MADE_ANEW = "made anew"
ANEW: Mapping[str, str] = {CHECKPOINT: MADE_ANEW, KEPT: MADE_ANEW}
NEEDS_TEACHER = ("finetune",)
NEEDS_INT8 = ("export",)
NEEDS_ALL_FILES = ("benchmark",)
# What they leave has verdicts and tables of accuracy in it.
SHOWS_ACCURACY = ("quantize", "export", "benchmark")
# What the other stages leave is no float model to go on from.
LEAVES_CHECKPOINT = ("train", "transfer", "prune", "finetune", "resize")

logger = logging.getLogger(__name__)

Action = Literal["run", "continue", "reuse"]


@dataclass(frozen=True)
class Step:
    """What happens to one requested stage.

    Attributes:
        stage: its name.
        action: run it from its start, continue an interrupted one, or reuse a finished one.
        reason: why, for the reader.
        parent: the stage whose checkpoint it starts from.
        settings: the settings that count for it.
    """

    stage: str
    action: Action
    reason: str
    parent: str | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a command will do.

    Attributes:
        steps: one a requested stage, in order.
        stale: finished stages that were not requested and no longer fit, with the reason.
    """

    steps: tuple[Step, ...]
    stale: dict[str, str]


def stage_settings(config: Config, stage: str) -> dict[str, Any]:
    """Return the settings that a stage's result depends on."""
    own = config.model_dump(mode="json")[stage]
    own.pop("pretrained", None)  # a file counts by its content, see named_files
    if stage == "prune" and plan_path(config) is not None:
        own["target"] = "a plan file"  # likewise
    # Where accuracy decides or is kept, it matters what it is measured by.
    chosen_by_map = config.data.validation_share or (stage == "prune" and own["accuracy_budget"])
    judged: dict[str, Any] = {}
    if chosen_by_map or stage in SHOWS_ACCURACY:
        judged = {"evaluation": {"distance": config.evaluation.distance}}
    if stage in SHOWS_ACCURACY:
        judged["evaluation"]["task"] = config.evaluation.task
    target = config.prune.target
    by_latency = stage == "prune" and isinstance(target, WidthBudget) and target.latency is not None
    timed = {"latency": {"threads": config.latency.threads}} if by_latency else {}
    return {
        "seed": config.seed,
        "devices": config.devices,
        "data": {
            "height": config.data.height,
            "width": config.data.width,
            "validation_share": config.data.validation_share,
        },
        "model": config.model.model_dump(mode="json"),
        **judged,
        **timed,
        stage: own,
    }


@dataclass(frozen=True)
class NamedFile:
    """A file that a stage is made from because a setting names it.

    Attributes:
        name: among the stage's inputs.
        key: of the setting.
        path: of the file.
    """

    name: str
    key: str
    path: Path


def named_files(config: Config, stage: str) -> list[NamedFile]:
    """Return the files that the settings of a stage name."""
    found = []
    if stage == "train" and config.train.pretrained is not None:
        found.append(NamedFile(PRETRAINED, "train.pretrained", config.train.pretrained))
    if stage == "prune" and (plan := plan_path(config)) is not None:
        found.append(NamedFile(PLAN, "prune.target", plan))
    return found


def stage_inputs(
    config: Config,
    stage: str,
    *,
    data_hash: str,
    parent: Mapping[str, str] | None,
    teacher: str | None,
    made: Mapping[str, Mapping[str, str]],
    former: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the hashes of what a stage is made from, by name.

    Args:
        config: all settings.
        stage: its name.
        data_hash: of the pictures.
        parent: hashes of what the stage before it made, by file name.
        teacher: hash of the full-width model.
        made: hashes of what the stages before it made, by stage and file name.
        former: what the stage was made from, if it is not to be made again; of a file that is no
            longer there, the hash that it had counts.

    Raises:
        PipelineError: a file that a setting names is not there.
    """
    inputs = {"data": data_hash}
    if parent is not None:
        inputs["parent"] = parent[CHECKPOINT]
        if stage == "finetune" and KEPT in parent:
            inputs["kept"] = parent[KEPT]
    if teacher is not None and stage in NEEDS_TEACHER:
        inputs["teacher"] = teacher
    for file in named_files(config, stage):
        inputs[file.name] = _hash_named(file, stage, former or {})
    if stage in NEEDS_INT8 and "quantize" in made:
        inputs[f"quantize/{INT8_FILE}"] = made["quantize"].get(INT8_FILE, MADE_ANEW)
    if stage in NEEDS_ALL_FILES:
        inputs |= files_of(made)
    return inputs


def _hash_named(file: NamedFile, stage: str, former: Mapping[str, str]) -> str:
    if file.path.is_file():
        return hash_file(file.path)
    if file.name not in former:
        raise PipelineError(
            f"{file.path}: no such file; give {file.key} an existing one, or leave {stage} out of "
            "--stages if it is made"
        )
    logger.warning("%s: %s is gone; what was made from it stays", stage, file.path)
    return former[file.name]


def files_of(made: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the hashes of the files that stages made, by ``stage/file``."""
    return {f"{stage}/{name}": digest for stage in made for name, digest in made[stage].items()}


def parent_of(stage: str, config: Config, run: RunDir) -> str | None:
    """Return the stage whose model a stage starts from.

    That is the latest requested stage before it that leaves a float checkpoint; for the first
    requested one, and for one that was not requested, the latest such stage that the run has
    finished or will have. Of transfer and prune, which exclude each other, the one counts that is
    requested, or that the run used last. Pruning never starts from what transfer made, which is at
    its target.

    Raises:
        PipelineError: there is none, and the stage needs one.
    """
    earlier = [name for name in STAGES[: STAGES.index(stage)] if name in LEAVES_CHECKPOINT]
    if stage == "prune":
        earlier.remove("transfer")
    if not earlier:
        return None
    requested = [name for name in earlier if name in config.stages]
    finished = [name for name in earlier if run.record(name) is not None]
    if {"transfer", "prune"} <= set(finished):
        used = cutting_stage(config) or latest_cut(run)
        finished.remove("prune" if used == "transfer" else "transfer")
    candidates = requested if stage in config.stages else []
    candidates = candidates or [name for name in earlier if name in {*requested, *finished}]
    if not candidates:
        raise PipelineError(
            f"{stage} needs a model, and {run.path} has none yet: put train before it in --stages "
            "(train.epochs=0 with train.pretrained=FILE takes a model as it is)"
        )
    return candidates[-1]


def latest_cut(run: RunDir) -> StageName | None:
    """Return which of transfer and prune the run used last, or None if neither is finished.

    A later stage that was made from what one of them left counts as a use.
    """
    records = {stage: record for stage in STAGES if (record := run.record(stage)) is not None}
    made_by: dict[str | None, StageName] = {
        records[stage].outputs.get(CHECKPOINT): stage
        for stage in CUTTING_STAGES
        if stage in records
    }
    used = [
        (run.finished_at(record.stage), made_by[left])
        for record in records.values()
        for left in (record.outputs.get(CHECKPOINT), record.inputs.get("parent"))
        if left in made_by
    ]
    return max(used)[1] if used else None


def make_plan(
    config: Config, run: RunDir, *, data_hash: str, restart_from: str | None = None
) -> Plan:
    """Compare what was asked for with what the run folder has.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        data_hash: of the pictures.
        restart_from: run this stage and those after it anew; once that was begun, it goes on.

    Raises:
        PipelineError: a stage that is needed is stale or missing and was not asked for.
    """
    if restart_from is not None and restart_from not in config.stages:
        raise PipelineError(
            f"--from {restart_from}: not among the stages to run ({','.join(config.stages)})"
        )
    if run.restarted_from() == restart_from:
        restart_from = None
    outputs: dict[str, Mapping[str, str]] = {}
    steps: list[Step] = []
    stale: dict[str, str] = {}
    for stage in STAGES:
        requested, record = stage in config.stages, run.record(stage)
        if not requested and record is None:
            continue
        parent = parent_of(stage, config, run)
        inputs = stage_inputs(
            config, stage, data_hash=data_hash,
            parent=outputs.get(parent) if parent else None,
            teacher=outputs["train"][CHECKPOINT] if "train" in outputs else None,
            made=outputs, former=record.inputs if record is not None and not requested else None,
        )  # fmt: skip
        settings = stage_settings(config, stage)
        reason = why_not_reusable(run, stage, settings, inputs)
        forced = restart_from is not None and STAGES.index(stage) >= STAGES.index(restart_from)
        if not requested:
            if reason is not None:
                stale[stage] = reason
            else:
                outputs[stage] = _outputs(record)
            continue
        if parent in stale:
            raise PipelineError(
                f"{stage} starts from {parent}, which is stale ({stale[parent]}): put {parent} in "
                "--stages to make it anew, or take the change back"
            )
        step = _step(run, stage, settings, inputs, parent, reason, forced)
        steps.append(step)
        outputs[stage] = _outputs(record) if step.action == "reuse" else ANEW
    return Plan(tuple(steps), stale)


def _step(
    run: RunDir,
    stage: str,
    settings: dict[str, Any],
    inputs: Mapping[str, str],
    parent: str | None,
    reason: str | None,
    forced: bool,
) -> Step:
    if reason is None and not forced:
        return Step(stage, "reuse", "settings and inputs are the same", parent, settings)
    if forced:
        return Step(stage, "run", "asked for with --from", parent, settings)
    if can_continue(run, stage, fingerprint(settings, inputs)):
        return Step(stage, "continue", "was interrupted", parent, settings)
    return Step(stage, "run", reason or "", parent, settings)


def why_not_reusable(
    run: RunDir, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str | None:
    """Say why a finished stage cannot be reused, or return None if it can."""
    record = run.record(stage)
    if record is None:
        return "not made yet"
    changes = describe_changes(record.settings, settings)
    if changes:
        return "; ".join(changes)
    changed = [name for name in inputs if inputs[name] != record.inputs.get(name)]
    gone = [name for name in record.inputs if name not in inputs]
    if changed or gone:
        return f"its input changed: {', '.join([*changed, *gone])}"
    for name, digest in record.outputs.items():
        path = run.stage_dir(stage) / name
        if not path.is_file() or hash_file(path) != digest:
            return f"{path} is missing or was changed"
    return None


def _outputs(record: StageRecord | None) -> Mapping[str, str]:
    assert record is not None
    return record.outputs


def can_continue(run: RunDir, stage: str, wanted: str) -> bool:
    """Tell whether an interrupted stage was begun with the same settings and inputs."""
    path = run.stage_dir(stage) / BEGUN_FILE
    if run.record(stage) is not None or not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text()).get("fingerprint") == wanted)
    except (ValueError, AttributeError):
        return False


def mark_begun(folder: Path, wanted: str) -> None:
    """Note with which settings and inputs a stage was begun."""
    write_json(folder / BEGUN_FILE, {"fingerprint": wanted})


def stale_records(config: Config, run: RunDir) -> dict[str, str]:
    """Say which finished stages do not fit the settings, or what they were made from, any more.

    The pictures are not looked at; a stage that was made from others than the newest one was is
    stale. A file that a setting names and that is no longer there counts as it was.
    """
    stale: dict[str, str] = {}
    checkpoints: set[str] = set()
    files: dict[str, str] = {}
    records = [record for stage in STAGES if (record := run.record(stage)) is not None]
    newest = max(records, key=lambda record: run.finished_at(record.stage), default=None)
    for record in records:
        changes = describe_changes(record.settings, stage_settings(config, record.stage))
        parent = record.inputs.get("parent")
        if changes:
            stale[record.stage] = "; ".join(changes)
        elif changed := _changed_files(config, record):
            stale[record.stage] = f"its input changed: {', '.join(changed)}"
        elif newest is not None and record.inputs["data"] != newest.inputs["data"]:
            stale[record.stage] = "made from other pictures"
        elif parent is not None and parent not in checkpoints:
            stale[record.stage] = "the model it was made from is gone"
        elif not _files_in(record).items() <= files.items():
            stale[record.stage] = "files that it measured are gone"
        else:
            checkpoints.add(record.outputs.get(CHECKPOINT, ""))
            files |= files_of({record.stage: record.outputs})
    return stale


def _changed_files(config: Config, record: StageRecord) -> list[str]:
    """Return the files that a setting names and that are others than a stage was made from."""
    before = record.inputs
    now = {
        file.name: hash_file(file.path) if file.path.is_file() else before.get(file.name)
        for file in named_files(config, record.stage)
    }
    return [name for name in (PRETRAINED, PLAN) if now.get(name) != before.get(name)]


def _files_in(record: StageRecord) -> dict[str, str]:
    return {name: digest for name, digest in record.inputs.items() if "/" in name}

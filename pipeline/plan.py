"""The plan of a command: which stages run, which are reused, and why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from pipeline.config import Config
from pipeline.dependencies import (
    NOT_MADE_YET,
    PARENT_INPUT,
    fingerprint,
    made_by,
    stage_inputs,
    stage_settings,
    what_changed,
)
from pipeline.run_dir import CHECKPOINT, KEPT, STAGE_FILE, STARTED_FILE, RunDir
from pipeline.stage import AnyStage, JsonDict, Made
from pipeline.stage_results import StageRecord
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_json
from reid_edge.training.fit_config import DIVERGED

RATES = ("learning_rate", "head_learning_rate", "gradient_clip")
TO_BE_MADE: Mapping[str, str] = {CHECKPOINT: "to be made", KEPT: "to be made"}

Action = Literal["run", "resume", "reuse"]


@dataclass(frozen=True)
class Step:
    """What happens to one requested stage.

    Attributes:
        stage: its name.
        action: run it from its start, resume an interrupted one, or reuse a finished one.
        reason: why, for the reader.
        parent: the stage whose checkpoint it starts from.
        settings: the settings that count for it.
    """

    stage: str
    action: Action
    reason: str
    parent: str | None
    settings: JsonDict


@dataclass(frozen=True)
class Plan:
    """What a command will do.

    Attributes:
        steps: one a requested stage, in order.
        stale: finished stages that were not requested and no longer fit, with the reason.
    """

    steps: tuple[Step, ...]
    stale: dict[str, str]

    @property
    def to_run(self) -> tuple[str, ...]:
        """Return the stages that will run, from their start or from where they stopped."""
        return tuple(step.stage for step in self.steps if step.action != "reuse")


def make_plan(
    config: Config, run: RunDir, *, data_hash: str, restart_from: str | None = None
) -> Plan:
    """Compare what was asked for with what the run folder has.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        data_hash: of the images.
        restart_from: run this stage and those after it again; if such a restart was interrupted,
            it is resumed.

    Raises:
        PipelineError: a stage that is needed is stale or missing and was not asked for.
    """
    if restart_from is not None and restart_from not in config.stages:
        raise PipelineError(
            f"--from {restart_from}: not among the stages to run ({','.join(config.stages)})"
        )
    if run.restarted_from() == restart_from:
        restart_from = None
    made: dict[str, Made] = {}
    steps: list[Step] = []
    stale: dict[str, str] = {}
    forced = False
    for stage in config.declared:
        forced = forced or stage.name == restart_from
        requested, record = stage.name in config.stages, run.record(stage.name)
        if not requested and record is None:
            continue
        parent = parent_of(stage.name, config, run)
        inputs = stage_inputs(
            config, stage, data_hash=data_hash, parent=parent, made=made,
            former=record.inputs if record is not None and not requested else None,
        )  # fmt: skip
        settings = stage_settings(config, stage)
        reason = why_not_reusable(run, stage.name, settings, inputs)
        if not requested:
            if reason is not None:
                stale[stage.name] = reason
            elif record is not None:
                made[stage.name] = made_by(record)
            continue
        if parent in stale:
            raise PipelineError(
                f"{stage.name} starts from {parent}, which is stale ({stale[parent]}): put "
                f"{parent} in --stages to make it again, or take the change back"
            )
        action: Action = "run"
        if forced:
            reason = "asked for with --from"
        elif reason is None:
            action, reason = "reuse", "settings and inputs are the same"
        elif can_resume(run, stage.name, fingerprint(settings, inputs)):
            action, reason = "resume", "was interrupted"
        elif can_resume_slower(run, stage.name, rateless_fingerprint(settings, inputs)):
            action, reason = "resume", "diverged; goes on with the other learning rate"
        steps.append(Step(stage.name, action, reason, parent, settings))
        if action == "reuse" and record is not None:
            made[stage.name] = made_by(record)
        else:
            made[stage.name] = Made(TO_BE_MADE, inputs.get(PARENT_INPUT, ""))
    return Plan(tuple(steps), stale)


def parent_of(name: str, config: Config, run: RunDir) -> str | None:
    """Return the stage whose model a stage starts from.

    This is the latest requested stage before it that leaves a model. For the first requested stage
    and for stages that are not requested, it is the latest such stage that is requested or
    finished. A run uses only one stage that cuts: the requested one, or the one that it used last.
    A stage that cuts never starts from another stage that cuts.

    Raises:
        PipelineError: there is none, and the stage needs one.
    """
    stage, cutting = config.declared[name], set(config.declared.cutting)
    if stage.model == "makes":
        return None
    earlier = [
        other.name
        for other in config.declared.before(name)
        if other.leaves_model and not (stage.cuts and other.cuts)
    ]
    requested = [other for other in earlier if other in config.stages]
    finished = [other for other in earlier if run.record(other) is not None]
    if len(cutting & set(finished)) > 1:
        used = cutting_stage(config) or latest_cut(config, run)
        finished = [other for other in finished if other == used or other not in cutting]
    candidates = requested if name in config.stages else []
    candidates = candidates or [other for other in earlier if other in {*requested, *finished}]
    if not candidates:
        makers = [other for other in config.declared if other.model == "makes"]
        names = " or ".join(maker.name for maker in makers)
        hints = "".join(f" ({maker.hint})" for maker in makers if maker.hint)
        raise PipelineError(
            f"{name} needs a model, and {run.path} has none yet: put {names} before it in --stages"
            f"{hints}"
        )
    return candidates[-1]


def cutting_stage(config: Config) -> str | None:
    """Return the requested stage that takes the model to its target's widths, if there is one."""
    return next((name for name in config.stages if config.declared[name].cuts), None)


def latest_cut(config: Config, run: RunDir) -> str | None:
    """Return the stage that cuts which the run used last, or None if none is finished.

    A later stage that started from its model counts as a use.
    """
    records = run.records()
    made_by_cut: dict[str | None, str] = {
        records[name].outputs.get(CHECKPOINT): name
        for name in config.declared.cutting
        if name in records
    }
    used = [
        (run.finished_at(record.stage), made_by_cut[left])
        for record in records.values()
        for left in (record.outputs.get(CHECKPOINT), record.inputs.get(PARENT_INPUT))
        if left in made_by_cut
    ]
    return max(used)[1] if used else None


def with_started_stages(config: Config, run: RunDir) -> Config:
    """Add the stages that were ever started here, so that ``--run`` alone means all of them.

    A run uses only one stage that cuts: the one that was requested last.
    """
    names, cutting = config.declared.names, set(config.declared.cutting)
    started = {name for name in names if run.stage_dir(name).is_dir()}
    if cutting_stage(config) is not None:
        started -= cutting
    elif len(started & cutting) > 1:
        last = [name for name in names if name in started & cutting][-1]
        started -= cutting - {latest_cut(config, run) or last}
    stages = tuple(name for name in names if name in config.stages or name in started)
    return config.model_copy(update={"stages": stages})


def why_not_reusable(
    run: RunDir, stage: str, settings: JsonDict, inputs: Mapping[str, str]
) -> str | None:
    """Say why a finished stage cannot be reused, or return None if it can."""
    record = run.record(stage)
    if record is None:
        return NOT_MADE_YET
    changed = run.changed_files(record)
    if changed:
        return what_changed(record, settings, inputs) or f"{changed[0]} is missing or was changed"
    return what_changed(record, settings, inputs)


def can_resume(run: RunDir, stage: str, wanted: str) -> bool:
    """Return whether an interrupted stage was started with the same settings and inputs.

    A stage with a record is finished, even if the record cannot be read.
    """
    path = run.stage_dir(stage) / STARTED_FILE
    if (run.stage_dir(stage) / STAGE_FILE).exists() or not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text()).get("fingerprint") == wanted)
    except (ValueError, AttributeError):
        return False


def can_resume_slower(run: RunDir, stage: str, rateless: str) -> bool:
    """Return whether a stage diverged that was started with the same settings except for rates.

    Args:
        run: the run's folder.
        stage: name of the stage.
        rateless: see :func:`rateless_fingerprint`.
    """
    folder = run.stage_dir(stage)
    if (folder / STAGE_FILE).exists() or not any(folder.rglob(DIVERGED)):
        return False
    try:
        content = json.loads((folder / STARTED_FILE).read_text())
        return bool(content.get("rateless_fingerprint") == rateless)
    except (OSError, ValueError, AttributeError):
        return False


def rateless_fingerprint(settings: Mapping[str, JsonValue], inputs: Mapping[str, str]) -> str:
    """Return the fingerprint without the settings that a diverged training may be resumed with."""

    def without_rates(value: JsonValue) -> JsonValue:
        if not isinstance(value, dict):
            return value
        return {key: without_rates(inner) for key, inner in value.items() if key not in RATES}

    return fingerprint({key: without_rates(value) for key, value in settings.items()}, inputs)


def mark_started(folder: Path, wanted: str, rateless: str | None = None) -> None:
    """Record the fingerprints of the settings and inputs that a stage is started with."""
    write_json(folder / STARTED_FILE, {"fingerprint": wanted, "rateless_fingerprint": rateless})


def stale_records(config: Config, run: RunDir) -> dict[str, str]:
    """Say which finished stages the next plan would make again, and why.

    The images are not read: a stage is stale if its images differ from those of the newest stage.
    If a file that a setting names is missing, its former hash is used.
    """
    stale: dict[str, str] = {}
    made: dict[str, Made] = {}
    records = run.records()
    newest: StageRecord | None = max(
        records.values(), key=lambda record: run.finished_at(record.stage), default=None
    )
    for name, record in records.items():
        assert newest is not None, "there is a newest of some"
        stage: AnyStage = config.declared[name]
        try:
            parent = parent_of(name, config, run)
        except PipelineError:
            stale[name] = "the model it was made from is gone"
            continue
        inputs = stage_inputs(
            config, stage, data_hash=newest.inputs["data"], parent=parent, made=made,
            former=record.inputs,
        )  # fmt: skip
        reason = what_changed(record, stage_settings(config, stage), inputs)
        if reason is None:
            made[name] = made_by(record)
        else:
            stale[name] = reason
    return stale

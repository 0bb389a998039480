"""The dependencies of a stage's result: settings, and the hashes of its inputs."""

import json
import logging
import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version

from pydantic import JsonValue

from pipeline.config import Config
from pipeline.model_hash import hash_teacher
from pipeline.run_dir import CHECKPOINT
from pipeline.stage import AnyStage, JsonDict, Made, Upstream
from pipeline.stage_results import StageRecord
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file

PARENT_INPUT = "parent"
NOT_MADE_YET = "not made yet"
LIBRARIES = (
    "torch", "torchvision", "nni", "lightning", "pytorch-metric-learning", "onnx", "onnxruntime",
)  # fmt: skip

logger = logging.getLogger(__name__)


def stage_settings(config: Config, stage: AnyStage) -> JsonDict:
    """Return the settings that a stage's result depends on."""
    own = config.of(stage)
    sections = stage.counted(config) if stage.counted else {stage.name: own.model_dump(mode="json")}
    # The measure matters only if accuracy chooses the result or is part of it.
    judged: JsonDict = {}
    if config.data.validation_share or stage.shows_accuracy or stage.chooses_by_accuracy(own):
        judged["distance"] = config.evaluation.distance
    together: JsonDict = {
        name: value
        for name, value in config.ddp.model_dump(mode="json").items()
        if value != type(config.ddp).model_fields[name].default
    }
    if stage.shows_accuracy:
        judged["task"] = config.evaluation.task
    return {
        "seed": config.seed,
        "data": {
            "height": config.data.height,
            "width": config.data.width,
            "validation_share": config.data.validation_share,
        },
        "model": config.model.model_dump(mode="json"),
        **({"evaluation": judged} if judged else {}),
        # How many processes train does not count: a run of eight GPUs is continued on a laptop.
        # What else matters for several counts where it is not the default.
        **({"ddp": together} if together else {}),
        **sections,
        **({"version": stage.version} if stage.version else {}),
    }


def made_by(record: StageRecord) -> Made:
    """Return what a finished stage made."""
    return Made(record.outputs, record.inputs.get(PARENT_INPUT, ""))


def stage_inputs(
    config: Config,
    stage: AnyStage,
    *,
    data_hash: str,
    parent: str | None,
    made: Mapping[str, Made],
    former: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the hashes of a stage's inputs, by name.

    Args:
        config: all settings.
        stage: whose inputs they are.
        data_hash: of the images.
        parent: the stage that it starts from, if any.
        made: what the stages before it made and what still fits, by stage.
        former: the stage's former inputs, if it does not run again; they give the hashes of files
            that no longer exist.

    Raises:
        PipelineError: a file that a setting names is not there.
    """
    inputs = {"data": data_hash}
    above = made.get(parent) if parent is not None else None
    if above is not None:
        inputs[PARENT_INPUT] = above.outputs[CHECKPOINT]
    if stage.takes_teacher(config) and (teacher := teacher_stage(config, made)) is not None:
        inputs["teacher"] = made[teacher].outputs[CHECKPOINT]
    if stage.takes_teacher(config):
        inputs |= _teacher_file(config)
    for file in stage.files(config.of(stage)):
        if file.path.is_file():
            inputs[file.name] = hash_file(file.path)
        elif former is not None and file.name in former:
            logger.warning("%s: %s is gone; what was made from it stays", stage.name, file.path)
            inputs[file.name] = former[file.name]
        else:
            raise PipelineError(
                f"{file.path}: no such file; give {file.key} an existing one, or leave "
                f"{stage.name} out of --stages if it is made"
            )
    inputs |= stage.inputs(Upstream(above, inputs.get(PARENT_INPUT, ""), made))
    return inputs


def _teacher_file(config: Config) -> dict[str, str]:
    """Return the hash of the file that ``teacher.file`` names, and whether embeddings are cached.

    The key of cached embeddings is there only with them, so that earlier runs stay as they are.
    """
    path = config.teacher.file
    cached = {"teacher.cached": "true"} if config.teacher.cached else {}
    if path is None:
        return cached
    return {"teacher.file": hash_teacher(path), **cached}


def teacher_stage(config: Config, made: Mapping[str, object]) -> str | None:
    """Return the stage that made the full-width model, if one did.

    A later stage whose model ``teaches`` takes its place, unless the run asks for the stage that
    made the model and not for that one: later stages do not start from it either then.
    """
    maker = next((s.name for s in config.declared if s.model == "makes" and s.name in made), None)
    teachers = [
        stage.name
        for stage in config.declared
        if stage.teaches
        and stage.name in made
        and (stage.name in config.stages or maker not in config.stages)
    ]
    return teachers[-1] if teachers else maker


def fingerprint(settings: Mapping[str, JsonValue], inputs: Mapping[str, str]) -> str:
    """Return the hash of a stage's settings and of the hashes of its inputs."""
    text = json.dumps({"settings": settings, "inputs": inputs}, sort_keys=True)
    return sha256(text.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def what_changed(
    record: StageRecord, settings: Mapping[str, JsonValue], inputs: Mapping[str, str]
) -> str | None:
    """Say which settings and inputs differ from those that a stage was made with, or None."""
    # Runs of earlier versions recorded the number of devices among the settings.
    former = {name: value for name, value in record.settings.items() if name != "devices"}
    changes = describe_changes(former, settings)
    if changes:
        return "; ".join(changes)
    changed = [name for name in inputs if inputs[name] != record.inputs.get(name)]
    gone = [name for name in record.inputs if name not in inputs]
    return f"its input changed: {', '.join([*changed, *gone])}" if changed or gone else None


def describe_changes(
    before: Mapping[str, JsonValue], after: Mapping[str, JsonValue], prefix: str = ""
) -> list[str]:
    """Say which settings differ, as ``key: old -> new``."""
    changes = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += describe_changes(old, new, f"{prefix}{key}.")
        else:
            texts = (json.dumps(value) for value in (old, new))
            before_text, after_text = (t if len(t) <= 40 else f"{t[:37]}..." for t in texts)
            changes.append(f"{prefix}{key}: {before_text} -> {after_text}")
    return changes

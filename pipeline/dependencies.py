"""What the result of a stage depends on: settings, and the hashes of what it is made from."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.run_dir import CHECKPOINT, INT8_FILE, KEPT, StageRecord
from pipeline.settings.target import WidthBudget
from pipeline.widths import plan_path
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file

# Inputs that settings name.
PRETRAINED_INPUT, PLAN_INPUT = "pretrained", "plan"
PARENT_INPUT = "parent"
MADE_ANEW = "made anew"
NEEDS_TEACHER = ("finetune",)
NEEDS_INT8 = ("export",)
NEEDS_ALL_FILES = ("benchmark",)
# What they leave has verdicts and tables of accuracy in it.
SHOWS_ACCURACY = ("quantize", "export", "benchmark")

logger = logging.getLogger(__name__)


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
        found.append(NamedFile(PRETRAINED_INPUT, "train.pretrained", config.train.pretrained))
    if stage == "prune" and (plan := plan_path(config)) is not None:
        found.append(NamedFile(PLAN_INPUT, "prune.target", plan))
    return found


@dataclass(frozen=True)
class Made:
    """What a stage made.

    Attributes:
        outputs: hashes of its files, by name.
        parent: hash of the model that it started from; empty if it starts from none.
    """

    outputs: Mapping[str, str]
    parent: str = ""

    @classmethod
    def by(cls, record: StageRecord) -> "Made":
        """Return what a finished stage made."""
        return cls(record.outputs, record.inputs.get(PARENT_INPUT, ""))


def stage_inputs(
    config: Config,
    stage: str,
    *,
    data_hash: str,
    parent: str | None,
    made: Mapping[str, Made],
    former: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the hashes of what a stage is made from, by name.

    Args:
        config: all settings.
        stage: its name.
        data_hash: of the images.
        parent: the stage that it starts from, if any.
        made: what the stages before it made, as far as it fits, by stage.
        former: what the stage was made from, if it is not to be made again; of a file that is no
            longer there, the hash that it had counts.

    Raises:
        PipelineError: a file that a setting names is not there.
    """
    inputs = {"data": data_hash}
    if parent is not None and parent in made:
        outputs = made[parent].outputs
        inputs[PARENT_INPUT] = outputs[CHECKPOINT]
        if stage == "finetune" and KEPT in outputs:
            inputs["kept"] = outputs[KEPT]
    if "train" in made and stage in NEEDS_TEACHER:
        inputs["teacher"] = made["train"].outputs[CHECKPOINT]
    for file in named_files(config, stage):
        inputs[file.name] = _hash_named(file, stage, former or {})
    int8 = made.get("quantize")
    # An int8 file of another model is neither checked nor needed.
    if stage in NEEDS_INT8 and int8 is not None and int8.parent == inputs.get(PARENT_INPUT):
        inputs[f"quantize/{INT8_FILE}"] = int8.outputs.get(INT8_FILE, MADE_ANEW)
    if stage in NEEDS_ALL_FILES:
        inputs |= _files_of(made)
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


def _files_of(made: Mapping[str, Made]) -> dict[str, str]:
    """Return the hashes of the files that stages made, by ``stage/file``."""
    return {
        f"{stage}/{name}": digest
        for stage, what in made.items()
        for name, digest in what.outputs.items()
    }

"""Whether what a run has can be used again, and what no longer fits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.dependencies import Made, stage_inputs, stage_settings
from pipeline.fingerprint import describe_changes
from pipeline.parents import parent_of
from pipeline.run_dir import STAGE_FILE, RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file, write_json

BEGUN_FILE = "begun.json"


def why_not_reusable(
    run: RunDir, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str | None:
    """Say why a finished stage cannot be reused, or return None if it can."""
    record = run.record(stage)
    if record is None:
        return "not made yet"
    for name, digest in record.outputs.items():
        path = run.stage_dir(stage) / name
        if not path.is_file() or hash_file(path) != digest:
            return what_changed(record, settings, inputs) or f"{path} is missing or was changed"
    return what_changed(record, settings, inputs)


def what_changed(
    record: StageRecord, settings: Mapping[str, Any], inputs: Mapping[str, str]
) -> str | None:
    """Say in what settings and inputs are others than a stage was made with, or return None."""
    changes = describe_changes(record.settings, settings)
    if changes:
        return "; ".join(changes)
    changed = [name for name in inputs if inputs[name] != record.inputs.get(name)]
    gone = [name for name in record.inputs if name not in inputs]
    return f"its input changed: {', '.join([*changed, *gone])}" if changed or gone else None


def can_continue(run: RunDir, stage: str, wanted: str) -> bool:
    """Tell whether an interrupted stage was begun with the same settings and inputs.

    One whose record is there was finished, whether the record can be read or not.
    """
    path = run.stage_dir(stage) / BEGUN_FILE
    if (run.stage_dir(stage) / STAGE_FILE).exists() or not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_text()).get("fingerprint") == wanted)
    except (ValueError, AttributeError):
        return False


def mark_begun(folder: Path, wanted: str) -> None:
    """Note with which settings and inputs a stage was begun."""
    write_json(folder / BEGUN_FILE, {"fingerprint": wanted})


def stale_records(config: Config, run: RunDir) -> dict[str, str]:
    """Say which finished stages the next plan would make anew, and why.

    The images are not looked at; a stage that was made from others than the newest one was is
    stale. A file that a setting names and that is no longer there counts as it was.
    """
    stale: dict[str, str] = {}
    made: dict[str, Made] = {}
    records = [record for stage in STAGES if (record := run.record(stage)) is not None]
    newest = max(records, key=lambda record: run.finished_at(record.stage), default=None)
    for record in records:
        assert newest is not None, "there is a newest of some"
        try:
            parent = parent_of(record.stage, config, run)
        except PipelineError:
            stale[record.stage] = "the model it was made from is gone"
            continue
        inputs = stage_inputs(
            config, record.stage, data_hash=newest.inputs["data"], parent=parent, made=made,
            former=record.inputs,
        )  # fmt: skip
        reason = what_changed(record, stage_settings(config, record.stage), inputs)
        if reason is None:
            made[record.stage] = Made.by(record)
        else:
            stale[record.stage] = reason
    return stale

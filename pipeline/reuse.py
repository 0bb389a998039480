"""Whether what a run has can be used again, and what no longer fits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.dependencies import PLAN, PRETRAINED, files_of, named_files, stage_settings
from pipeline.fingerprint import describe_changes
from pipeline.run_dir import CHECKPOINT, RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from reid.files import hash_file, write_json

BEGUN_FILE = "begun.json"


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

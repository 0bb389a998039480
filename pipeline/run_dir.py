"""The run's folder: its lock, its finished stages, and the paths of its files."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from reid_edge.core.checksums import CHECKSUMS
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file, write_bytes, write_json
from reid_edge.core.lock import locked

if TYPE_CHECKING:
    from pipeline.stage import Stages
    from pipeline.stage_results import StageRecord, StageResult

STAGE_FILE = "stage.json"
STARTED_FILE = "started.json"
CHECKPOINT = "checkpoint.pt"
LAST_MODEL = "last.pt"
INT8_FILE = "int8.pt"
METRICS = "metrics.json"
CALIBRATION_FILE = "calibration.json"
KEPT = "kept.json"
PLAN = "plan.json"
SUPERSEDED = "superseded"
IMAGE_CACHE = "image_cache"
TEACHER_CACHE = "teacher_embeddings"
LOCK = "lock"
RESTART_FILE = "restart.json"
# How the files and folders are called that are renamed when they are complete.
HALF_WRITTEN = ("*.partial", ".*.tmp", ".*.unfinished")
MODEL_SUFFIXES = (".pt", ".onnx", ".xml", ".bin", ".pte", ".tar")
# Names in the run's folder that no stage may have.
RESERVED = (
    SUPERSEDED, LOCK, "search", IMAGE_CACHE, TEACHER_CACHE, "devices", "mlruns", "wandb",
)  # fmt: skip

logger = logging.getLogger(__name__)


class RunDir:
    """A run's folder.

    Args:
        path: the folder; it is made by :meth:`create`.
        stages: that it may hold; by default the registered ones.
    """

    def __init__(self, path: Path, stages: Stages | None = None) -> None:
        if stages is None:
            from pipeline.stages import default_stages

            stages = default_stages()
        self.path = path
        self.stages = stages

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def check(self) -> None:
        """Check that the folder is a run's, or free to become one.

        Raises:
            PipelineError: it is a file, or holds something else than a run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise PipelineError(f"{self.path}: is a file; choose a folder for the run")
        marks = (self.path / LOCK, self.config_path)
        if self.path.is_dir() and any(self.path.iterdir()) and not any(m.exists() for m in marks):
            raise PipelineError(f"{self.path}: holds files, but no run; choose a new folder")

    def create(self) -> None:
        """Make the folder, or take it as it is if it is a run's.

        Raises:
            PipelineError: it cannot be made, or holds something else than a run.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(
                f"{self.path}: cannot make the run folder ({error.strerror}); choose another folder"
            ) from error

    def stage_dir(self, stage: str) -> Path:
        """Return the folder of a stage."""
        return self.path / stage

    def record(self, stage: str) -> StageRecord | None:
        """Return the record of a finished stage, or None if it is not finished.

        A file that cannot be read counts as missing: the stage runs again, and its former results
        are set aside.
        """
        from pipeline.stage_results import SCHEMA_VERSION, StageRecord

        path = self.stage_dir(stage) / STAGE_FILE
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text())
            found = content.get("schema_version", 1)
            if found != SCHEMA_VERSION:
                raise ValueError(f"schema version {found}, expected {SCHEMA_VERSION}")
            result = self.stages[stage].result_class.model_validate(content.pop("result"))
            return StageRecord.model_validate({**content, "result": result})
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            logger.warning("%s: cannot be read (%s); the stage counts as not made", path, reason)
            return None

    def records(self) -> dict[str, StageRecord]:
        """Return the records of the finished stages, by stage, in order."""
        records = ((name, self.record(name)) for name in self.stages.names)
        return {name: record for name, record in records if record is not None}

    def hash_outputs(self, stage: str, result: StageResult) -> dict[str, str]:
        """Return the hashes of a stage's files that later stages start from or measure."""
        from reid_edge.core.backends import model_file_parts

        folder = self.stage_dir(stage)
        found = [path for path in sorted(folder.glob("*")) if path.suffix in MODEL_SUFFIXES]
        models = [path for path in found if path.name != LAST_MODEL]
        named = [file.path for file in result.files if file.path is not None]
        if result.model is not None:
            named.append(result.model.file)
        returned = [part for name in named for part in model_file_parts(self.path / name)]
        own = [path for path in returned if path.parent == folder]
        paths = dict.fromkeys([*models, *own, folder / KEPT, folder / PLAN])
        return {path.name: hash_file(path) for path in paths if path.is_file()}

    def hash_results(self, stage: str, outputs: Collection[str]) -> dict[str, str]:
        """Return the hashes of what else a stage leaves that people use and no later stage does.

        These are its JSON files, and the models in folders of trackers. A threshold is left out: it
        has its own hash, and another one may be stored in its place. So are what only the page is
        drawn from, and the settings of trackers, which their users may change.
        """
        from pipeline.found_images import FOUND
        from reid_edge.inference.thresholds import SUFFIX
        from reid_edge.tracking.tracker_files import TRACKERS

        folder = self.stage_dir(stage)
        left_out = {STAGE_FILE, STARTED_FILE, CHECKSUMS, FOUND, *outputs}
        paths = [path for path in sorted(folder.glob("*.json")) if path.name not in left_out]
        named = [path for path in paths if not path.name.endswith(SUFFIX)]
        named += sorted(folder.glob(f"{TRACKERS}/**/*.onnx"))
        return {path.relative_to(folder).as_posix(): hash_file(path) for path in named}

    def changed_files(self, record: StageRecord) -> list[Path]:
        """Return the files of a finished stage that are missing, changed or damaged.

        ``metrics.json`` is none of them, see :meth:`restore_metrics`.
        """
        from reid_edge.inference.thresholds import SUFFIX, is_damaged

        folder = self.stage_dir(record.stage)
        hashes = {folder / name: d for name, d in (record.outputs | record.results).items()}
        hashes.pop(folder / METRICS, None)
        changed = [p for p, digest in hashes.items() if not p.is_file() or hash_file(p) != digest]
        return changed + [path for path in folder.glob(f"*{SUFFIX}") if is_damaged(path)]

    def restore_metrics(self, record: StageRecord) -> None:
        """Write a stage's ``metrics.json`` again from its record if it is missing or changed."""
        path, model = self.stage_dir(record.stage) / METRICS, record.result.model
        wanted = record.results.get(METRICS)
        if wanted is None or model is None or (path.is_file() and hash_file(path) == wanted):
            return
        logger.warning("%s was missing or changed; it is written again from %s", path, STAGE_FILE)
        write_bytes(path, model.metrics.to_json().encode())

    def remove_leftovers(self) -> None:
        """Remove what a killed command left and nothing resumes from.

        These are half written files and, of finished stages, the state for resuming. The caller
        holds the lock, so that nobody else writes here.
        """
        folders = [self.stage_dir(name) for name in self.stages.names]
        finished = [folder for folder in folders if (folder / STAGE_FILE).exists()]
        left = [path for folder in finished for path in folder.rglob("*.ckpt")]
        left += [path for folder in finished for path in folder.rglob(CHECKSUMS)]
        for folder in (*folders, self.path / SUPERSEDED):
            left += [path for pattern in HALF_WRITTEN for path in folder.rglob(pattern)]
        for folder in (self.path, self.path / TEACHER_CACHE):
            left += [path for pattern in HALF_WRITTEN for path in folder.glob(pattern)]
        for path in left:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def finish(self, record: StageRecord) -> None:
        """Write a stage's record, which marks it as finished."""
        write_json(self.stage_dir(record.stage) / STAGE_FILE, record.model_dump(mode="json"))

    def finished_at(self, stage: str) -> int:
        """Return when a stage was finished, in nanoseconds."""
        return (self.stage_dir(stage) / STAGE_FILE).stat().st_mtime_ns

    def restarted_from(self) -> str | None:
        """Return the stage of a --from that was started and is not finished."""
        try:
            return str(json.loads((self.path / RESTART_FILE).read_text())["stage"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def mark_restart(self, stage: str | None) -> None:
        """Record that a --from was started; None: it is finished."""
        if stage is None:
            (self.path / RESTART_FILE).unlink(missing_ok=True)
        else:
            write_json(self.path / RESTART_FILE, {"stage": stage})

    def set_aside(self, stage: str) -> Path | None:
        """Move a stage's folder to ``superseded/``, so that no result is lost.

        Returns:
            The new folder, or None if there was nothing to move.
        """
        folder = self.stage_dir(stage)
        if not folder.exists():
            return None
        shelf = self.path / SUPERSEDED
        shelf.mkdir(exist_ok=True)
        names = [re.fullmatch(rf"{stage}-(\d+)", path.name) for path in shelf.iterdir()]
        numbers = [int(name[1]) for name in names if name is not None]
        target = shelf / f"{stage}-{1 + max(numbers, default=0)}"
        folder.rename(target)
        return target

    def write_config(self, text: str) -> None:
        """Write the resolved configuration."""
        write_bytes(self.config_path, text.encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder; the lock ends with the process, even if that is killed.

        Raises:
            PipelineError: another process works in this folder.
        """
        advice = "wait for it, stop it, or choose another folder"
        with locked(self.path / LOCK, advice, error=PipelineError):
            yield

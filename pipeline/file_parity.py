"""Write files of a model, compare each with the model on images, and set aside what differs.

The stage ``export`` and the command ``reid-edge export`` both do it here. The images need no
labels; the stage adds its accuracy, see ``pipeline.judging``.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.judging import Judge, check_file, problem_of
from pipeline.stage_results import FileResult
from quantize.own_process import run_apart
from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import NotBuiltError, QuantizeError
from reid_edge.core.exporter import CalibrationBatches, Exporter, ExportSource
from reid_edge.core.io import remove_unfinished

if TYPE_CHECKING:
    from pydantic import BaseModel

REJECTED = "rejected-"
logger = logging.getLogger(__name__)


def write_files(
    exporters: Iterable[Exporter],
    source: ExportSource,
    judge: Judge,
    folder: Path,
    *,
    batches: Sequence[int] = (),
    settings_of: Callable[[Exporter], BaseModel | None],
    path_prefix: str = "",
) -> list[FileResult]:
    """Write files, compare each with the model, and rename those that differ.

    A file that cannot be written, or differs, does not stop the others, but for those that would
    be made of it.

    Args:
        exporters: each behind those that it is made of.
        source: what the files are made from.
        judge: what they are judged by.
        folder: where to write. Files of the same names are removed first.
        batches: numbers of images in a call, with a file for each; empty: any number in one file.
        settings_of: gives an exporter's own settings.
        path_prefix: of the paths in the results, such as ``"export/"``.

    Returns:
        A result for each file, in order.
    """
    rows = []
    made: dict[int | None, dict[str, Path]] = {}
    for exporter in exporters:
        siblings: dict[int, Path] = {}
        for batch in _batches_of(exporter, batches):
            # What takes any batch can be made of a file of each; others only of their own batch.
            others = list(made.values()) if batch is None else []
            files = [*others, made.get(None, {}), made.get(batch, {})]
            given = replace(
                source,
                batch=batch,
                files={name: path for found in files for name, path in found.items()},
                siblings=dict(siblings),
                settings=settings_of(exporter),
            )
            row = write_checked(exporter, given, judge, folder, path_prefix)
            if not row.problems:
                made.setdefault(batch, {})[exporter.name] = folder / row.name
                if batch is not None:
                    siblings[batch] = folder / row.name
            rows.append(row)
    return rows


def _batches_of(exporter: Exporter, batches: Sequence[int]) -> Sequence[int | None]:
    if exporter.batching == "any":
        return (None,)
    return batches or ((1,) if exporter.batching == "fixed" else (None,))


def replaced_files(
    exporters: Iterable[Exporter], source: ExportSource, folder: Path, batches: Sequence[int] = ()
) -> Iterator[Path]:
    """Yield the files that ``write_files`` with these arguments removes or replaces."""
    for exporter in exporters:
        for batch in _batches_of(exporter, batches):
            path = folder / exporter.file_name(replace(source, batch=batch))
            yield from _old_files(path)


def _old_files(path: Path) -> Iterator[Path]:
    """Yield the parts of a file of an earlier export, and those that it has when rejected."""
    for old in (path, path.with_name(REJECTED + path.name)):
        yield from model_file_parts(old)


def write_for_trackers(folder: Path, rows: Iterable[FileResult]) -> None:
    """Write configuration files of trackers for the ONNX files of an export that agree."""
    from reid_edge.tracking.tracker_files import write_beside_export

    files = [row for row in rows if row.exporter in ("onnx", "onnx_int8")]
    write_beside_export(
        folder,
        [row.name for row in files if not row.problems],
        rejected=[row.name for row in files if row.problems],
    )


def write_checked(
    exporter: Exporter, source: ExportSource, judge: Judge, folder: Path, path_prefix: str = ""
) -> FileResult:
    """Write a file, compare it with its model, and rename it if it differs."""
    path = folder / exporter.file_name(source)
    row = FileResult(
        name=path.name, bytes=0, int8=exporter.int8, timed=exporter.timed, exporter=exporter.name,
        meant_for=exporter.meant_for, batch=source.batch,
    )  # fmt: skip
    for old in _old_files(path):
        old.unlink(missing_ok=True)
    rejected = path.with_name(f"{REJECTED}{path.stem}{exporter.folder_suffix}")
    if _is_own_folder(exporter, rejected):
        shutil.rmtree(rejected)
    logger.info("export: writing %s", path.name)
    try:
        if source.pixels is not None and not exporter.takes_pixels:
            raise QuantizeError("takes normalised images alone; leave --input out")
        if source.projection is not None and not exporter.carries_widths:
            raise QuantizeError("takes published architectures alone; leave --dims out")
        _write(exporter, source, path)
    except NotBuiltError as notice:
        logger.warning("export: %s", notice)
        return row.model_copy(update={"timed": False, "note": str(notice)})
    except MemoryError:
        raise
    except Exception as error:  # a library's too; the other files go on
        # Some of its parts may be there, under names that look whole.
        for part in model_file_parts(path):
            part.unlink(missing_ok=True)
            remove_unfinished(part)
        _reject_folder(exporter, path)
        return row.model_copy(update={"problems": (problem_of(error, "cannot be written"),)})
    row = check_file(path, judge, row, exporter)
    kept = path
    if row.problems:
        kept = reject(path)
        _reject_folder(exporter, path)
    return row.model_copy(update={"path": f"{path_prefix}{kept.name}"})


def _is_own_folder(exporter: Exporter, folder: Path) -> bool:
    """Return whether a folder is there that goes with a file of the exporter."""
    if not exporter.folder_suffix:
        return False
    return folder.is_dir() if exporter.owns_folder is None else exporter.owns_folder(folder)


def _reject_folder(exporter: Exporter, path: Path) -> None:
    """Rename the folder that goes with a file that cannot be used, if the exporter wrote one."""
    folder = path.with_name(f"{path.stem}{exporter.folder_suffix}")
    if not _is_own_folder(exporter, folder):
        return
    rejected = folder.with_name(REJECTED + folder.name)
    if rejected.exists():  # of another origin, which stays
        shutil.rmtree(folder)
    else:
        folder.rename(rejected)


def _write(exporter: Exporter, source: ExportSource, path: Path) -> None:
    if not exporter.own_process:
        exporter.write(source, path)
        return
    needs_images = exporter.int8 or exporter.calibrated
    drawn = source.draw_calibration() if needs_images else CalibrationBatches(())
    given = replace(
        source,
        model=source.model if exporter.needs_model else None,
        draw_calibration=_Drawn(drawn),
    )
    run_apart(exporter.write, given, path, time_limit_s=exporter.time_limit_s)


@dataclass(frozen=True)
class _Drawn:
    """Calibration images for another process, which a function of this one cannot be sent to."""

    drawn: CalibrationBatches

    def __call__(self) -> CalibrationBatches:
        return self.drawn


def reject(path: Path) -> Path:
    """Rename a file that failed, so that nobody uses it by mistake; return its new path."""
    for part in model_file_parts(path):
        if part.is_file():
            part.replace(part.with_name(REJECTED + part.name))
    return path.with_name(REJECTED + path.name)

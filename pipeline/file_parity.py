"""Write files of a model, compare each with the model on images, and set aside what differs.

The stage ``export`` and the command ``reid-edge export`` both do it here. The images need no
labels; the stage adds its accuracy by ``Judge.measure``.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.stage_results import FileResult
from quantize.own_process import run_apart
from quantize.parity import (
    BATCH_SIZES,
    ParityLimits,
    batch_difference,
    compare,
    compare_among,
    violations,
)
from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import ModelError, NotBuiltError, QuantizeError, ReidError, reason_of
from reid_edge.core.exporter import CalibrationBatches, Exporter, ExportSource
from reid_edge.core.io import remove_unfinished
from reid_edge.core.model_file import Backend, Embeddings, Images
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.inference.embedder import (
    Embedder,
    EmbeddingSpace,
    embed_batch,
    embed_files,
    load_embedder,
    prepare_image,
)
from reid_edge.metrics.results import Evaluation

if TYPE_CHECKING:
    from pydantic import BaseModel

REJECTED = "rejected-"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedFile:
    """The embeddings that a model file gives for the images of a `Judge`.

    Attributes:
        space: of the file.
        description: of the file.
        embeddings: (N, D), of the queries and then of the gallery.
        batch_difference: see `quantize.parity.batch_difference`.
        latency_ms: median time of a call, or None if none was timed.
    """

    space: EmbeddingSpace
    description: str
    embeddings: Embeddings
    batch_difference: float
    latency_ms: float | None


@dataclass(frozen=True)
class Judge:
    """What files are judged by.

    Attributes:
        queries: image files.
        gallery: image files among which the nearest ones of each query are found; empty: those
            are found among the other queries.
        reference: the model's embeddings (N, D) of the queries and then of the gallery.
        architecture: of the model, or None.
        input_size: (height, width).
        float_limits: of float files.
        int8_limits: of int8 files.
        batch_size: images that go through a file together.
        workers: threads that decode images; 0: none.
        timed_calls: of each file, with as many images as it takes, or one; 0: none.
        measure: adds to the result of a file what labels tell, from a file's embeddings and the
            embedder that they are of (which cannot embed any more).
        work: begins a piece of work that is shown.
    """

    queries: Sequence[Path]
    gallery: Sequence[Path]
    reference: Tensor
    architecture: str | None
    input_size: tuple[int, int]
    float_limits: ParityLimits
    int8_limits: ParityLimits
    batch_size: int = 32
    workers: int = 0
    timed_calls: int = 0
    measure: Callable[[Embedder, Tensor, FileResult], FileResult] | None = None
    work: StartProgress = no_progress

    @property
    def images(self) -> list[Path]:
        """Return the queries and then the gallery."""
        return [*self.queries, *self.gallery]


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
    if exporter.folder_suffix:
        old = path.with_name(f"{REJECTED}{path.stem}{exporter.folder_suffix}")
        shutil.rmtree(old, ignore_errors=True)
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
        return row.model_copy(update={"problems": (_problem(error, "cannot be written"),)})
    row = check_file(path, judge, row, exporter)
    kept = path
    if row.problems:
        kept = reject(path)
        _reject_folder(exporter, path)
    return row.model_copy(update={"path": f"{path_prefix}{kept.name}"})


def _problem(error: Exception, what: str) -> str:
    """Return an error as a problem of a file, in one line."""
    logger.debug("a file %s", what, exc_info=error)
    return str(error) if isinstance(error, ReidError) else f"{what}: {reason_of(error)}"


def _reject_folder(exporter: Exporter, path: Path) -> None:
    """Rename the folder that goes with a file that cannot be used, if there is one."""
    folder = path.with_name(f"{path.stem}{exporter.folder_suffix}")
    if exporter.folder_suffix and folder.is_dir():
        folder.rename(folder.with_name(REJECTED + folder.name))


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


def check_file(
    path: Path, judge: Judge, row: FileResult, exporter: Exporter | None = None
) -> FileResult:
    """Compare a file with its model.

    Args:
        path: of the file.
        judge: the images and the model's embeddings of them.
        row: what is known of the file; it says whether the limits for int8 files apply.
        exporter: that wrote the file, or None for a file of a registered backend.
    """
    logger.info("export: checking %s", path.name)
    size = sum(part.stat().st_size for part in model_file_parts(path) if part.is_file())
    row = row.model_copy(update={"bytes": size})
    if exporter is not None and exporter.unchecked:
        return row.model_copy(update={"note": f"not checked: {exporter.unchecked}"})
    backend = None if exporter is None else exporter.backend
    try:
        if exporter is not None and exporter.own_process:
            # A function of this process, such as ``measure``, cannot be sent to another one.
            sent = replace(judge, measure=None, work=no_progress, reference=torch.empty(0))
            limit = exporter.time_limit_s
            found = run_apart(embed_file, path, sent, backend, row.batch, time_limit_s=limit)
        else:
            found = embed_file(path, judge, backend, row.batch)
        embeddings = torch.from_numpy(found.embeddings)
        if judge.gallery:
            count = len(judge.queries)
            parity = compare(
                (judge.reference[:count], judge.reference[count:]),
                (embeddings[:count], embeddings[count:]),
                batch_difference=found.batch_difference,
            )
        else:
            parity = compare_among(
                judge.reference, embeddings, batch_difference=found.batch_difference
            )
    except MemoryError:
        raise
    except Exception as error:  # a runtime's too; the other files go on
        return row.model_copy(update={"problems": (_problem(error, "cannot be run"),)})
    limits = judge.int8_limits if row.int8 else judge.float_limits
    problems = tuple(violations(parity, limits))
    row = row.model_copy(
        update={"problems": problems, "parity": parity, "latency_ms": found.latency_ms}
    )
    if judge.measure is None:
        return row
    embedder = Embedder(_embeds_no_more, found.space, found.description, path)
    return judge.measure(embedder, embeddings, row)


def embed_file(
    path: Path, judge: Judge, backend: Backend | None = None, batch: int | None = None
) -> EmbeddedFile:
    """Load a model file as its users load it, embed the images, and time calls.

    Raises:
        ReidError: the file cannot be loaded, fails, or does not give embeddings.
    """
    embedder = load_embedder(
        path, architecture=judge.architecture, input_size=judge.input_size, backend=backend
    )
    images = judge.images
    embeddings = embed_files(
        embedder,
        images,
        batch_size=judge.batch_size,
        workers=judge.workers,
        progress=judge.work(f"checking {path.name}"),
    )
    first = np.stack([prepare_image(image, embedder.space) for image in images[: max(BATCH_SIZES)]])
    difference = batch_difference(
        lambda batch: torch.from_numpy(embed_batch(embedder, batch.numpy())),
        torch.from_numpy(first),
    )
    return EmbeddedFile(
        embedder.space,
        embedder.description,
        embeddings,
        difference,
        _median_ms(embedder, first, batch or 1, judge.timed_calls),
    )


def _median_ms(embedder: Embedder, images: Images, batch: int, calls: int) -> float | None:
    """Return the median time of calls with a batch, after two that are not timed."""
    if not calls:
        return None
    given = images[np.arange(batch) % len(images)]
    times = []
    for number in range(2 + calls):
        start = time.perf_counter_ns()
        embed_batch(embedder, given)
        if number >= 2:
            times.append((time.perf_counter_ns() - start) / 1e6)
    return median(times)


def _embeds_no_more(_: object) -> Embeddings:
    raise ModelError("the file is not loaded any more")


def accuracy_loss(model: Evaluation, file: Evaluation, task: str) -> float:
    """Return how much mAP (for faces: EER) a file loses; it is negative if the file is better.

    The accuracy is that of cosine similarity, because not all files give unit-length embeddings.
    """
    if task == "face" and model.verification and file.verification:
        return file.verification.equal_error_rate - model.verification.equal_error_rate
    before, after = (one.ranking["cosine"].mean_average_precision for one in (model, file))
    return before - after


def reject(path: Path) -> Path:
    """Rename a file that failed, so that nobody uses it by mistake; return its new path."""
    for part in model_file_parts(path):
        if part.is_file():
            part.replace(part.with_name(REJECTED + part.name))
    return path.with_name(REJECTED + path.name)

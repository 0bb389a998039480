"""Time model files in turn on this machine, each in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.device_pack import cost_entries
from pipeline.device_results import DeviceFile, DeviceMachine, DeviceResult, DeviceTiming
from quantize.machine import machine_description, usable_cores
from quantize.timing import Model, measure_side_by_side
from reid_edge.core.backends import load_model_file, model_file_parts, recognise
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file
from reid_edge.inference.embedder import load_embedder

if TYPE_CHECKING:
    from quantize.measurements import Measurement
    from quantize.worker import Call

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _TimedFile:
    """A file that can be loaded; its name in the result and the name of its backend."""

    path: Path
    name: str
    kind: str
    model: Model


def time_files(
    paths: Sequence[Path],
    *,
    batches: Sequence[int],
    threads: Sequence[int] | None,
    rounds: int,
    input_size: tuple[int, int] | None = None,
) -> DeviceResult:
    """Time files in turn on this machine.

    Args:
        paths: model files of any kind.
        batches: images in a call.
        threads: threads of a call; None: 1, and all cores.
        rounds: timed calls of each file, batch and number of threads.
        input_size: (height, width); by default each file's own.

    Raises:
        PipelineError: a file is named twice.
        ReidError: a file cannot be loaded or run.
    """
    files = _loadable(paths, input_size)
    measured = measure_side_by_side(
        {file.name: file.model for file in files},
        batches=batches,
        threads=threads or sorted({1, usable_cores()}),
        rounds=rounds,
        progress=logger.info,
    )
    about = machine_description()
    machine = DeviceMachine(
        name="this machine", cpu=about.cpu, architecture=about.architecture, cores=about.cores,
        flags=about.flags,
    )  # fmt: skip
    rows = tuple(_row(file, measured[file.name]) for file in files)
    return DeviceResult(machine=machine, rounds=rounds, files=rows)


def _loadable(paths: Sequence[Path], input_size: tuple[int, int] | None) -> list[_TimedFile]:
    """Load each file once: one that cannot be loaded ends the command before anything is timed."""
    if len(set(paths)) < len(paths):
        raise PipelineError("a file is named twice; name each once")
    same = len({path.name for path in paths}) < len(paths)
    files = []
    for path in paths:
        space = load_embedder(path, input_size=input_size).space
        backend = recognise(path)
        model = Model(partial(_open, path), (3, *space.input_size), backend.packages)
        name = str(path) if same else path.name
        files.append(_TimedFile(path, name, backend.name, model))
    return files


def _open(path: Path) -> Call:
    """Load a file, in another process; the number of threads is set there."""
    loaded = load_model_file(path)
    return lambda images: loaded.embed(images.numpy())


def _row(file: _TimedFile, measured: Measurement) -> DeviceFile:
    parts = [part for part in model_file_parts(file.path) if part.is_file()]
    return DeviceFile(
        name=file.name,
        kind=file.kind,
        sha256=hash_file(file.path),
        bytes=sum(part.stat().st_size for part in parts),
        peak_bytes=measured.peak_bytes,
        timings=tuple(
            DeviceTiming(
                batch=timing.batch,
                threads=timing.threads,
                median_ms=timing.median_ms,
                lower_quartile_ms=timing.lower_quartile_ms,
                upper_quartile_ms=timing.upper_quartile_ms,
            )
            for timing in measured.timings
        ),
        **cost_entries(file.path, file.kind),
    )

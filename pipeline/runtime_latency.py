"""The latency of a network at some widths as a file of a runtime: timed here, or on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import nn

from pipeline.device_results import DeviceResult, read_result
from pipeline.settings.target import RUNTIMES, WidthBudget
from prune.latency_search import ProbeTime
from prune.layer_widths import Widths
from prune.surgery import cut
from quantize.exporters import EXPORTERS
from quantize.exporters.onnx_int8 import OnnxInt8Settings
from quantize.measurements import Timing
from quantize.timing import Model, measure_side_by_side
from quantize.worker import Call
from reid_edge.core.backends import load_model_file, recognise
from reid_edge.core.errors import PipelineError, PruneError, QuantizeError
from reid_edge.core.exporter import (
    CalibrationBatches,
    Exporter,
    ExportSource,
    check_packages,
    in_order,
    with_what_they_are_made_of,
)
from reid_edge.core.model_file import ModelMetadata

ROUNDS = 30
# Latency does not depend on the values, so files are calibrated on noise.
NOISE_IMAGES = 8


def check_runtime(budget: WidthBudget) -> None:
    """Check that a latency in milliseconds can be found, before anything runs.

    Raises:
        PipelineError: a package or a compiler is missing.
    """
    assert budget.runtime is not None, "checked with the settings"
    if budget.table is not None:  # see macs_by_table
        return
    try:
        check_packages(_exporters(budget.runtime))
    except QuantizeError as error:
        raise PipelineError(f"prune.target: {error}") from error
    if budget.runtime == "c":
        from quantize.c_engine.toolchain import find_compiler

        if find_compiler() is None:
            raise PipelineError(
                "prune.target: the runtime c needs a C compiler (cc, gcc or clang) to be timed "
                "here; install one, or choose onnx_int8"
            )


class RuntimeTimer:
    """Times networks as files of a runtime on this machine.

    Each network is timed in turns with the full-width model, so that both meet the same load.

    Args:
        source: the full-width model; it is put on the CPU and into evaluation mode.
        budget: names the runtime and the number of threads.
        folder: for the files.
        size: (height, width) of the image.
        groups: layers whose channels go together.
        trace_size: (height, width) at which cuts are made.
    """

    def __init__(
        self,
        source: nn.Module,
        budget: WidthBudget,
        folder: Path,
        *,
        size: tuple[int, int],
        groups: list[tuple[str, ...]],
        trace_size: tuple[int, int],
    ) -> None:
        self.source, self.budget, self.groups = source.cpu().eval(), budget, groups
        self.size, self.folder = size, folder
        self.example = torch.randn(2, 3, *trace_size, generator=torch.Generator().manual_seed(0))
        self.full = self._write(self.source, "full")

    def full_ms(self) -> float:
        """Return the median milliseconds of the full-width model."""
        return self._measure(self.full)[0].median_ms

    def __call__(self, widths: Widths) -> ProbeTime:
        """Cut the model, write it for the runtime, and time it beside the full-width model."""
        compact = cut(
            self.source, widths,
            example=self.example, check_input=self.example, groups=self.groups,
        ).model  # fmt: skip
        full, probe = self._measure(self.full, self._write(compact.eval(), "probe"))
        return ProbeTime(
            1 / probe.speedup,
            probe.lower_quartile_ms / full.median_ms,
            probe.upper_quartile_ms / full.median_ms,
            full.median_ms,
        )

    def _write(self, model: nn.Module, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return write_for(model, self.budget, self.size, folder)

    def _measure(self, *paths: Path) -> list[Timing]:
        models = {
            f"{path.parent.name}/{path.name}": Model(
                partial(_open, path), (3, *self.size), recognise(path).packages
            )
            for path in paths
        }
        measured = measure_side_by_side(
            models, batches=(1,), threads=(self.budget.threads,), rounds=ROUNDS
        )
        return [one.timings[0] for one in measured.values()]


def write_for(model: nn.Module, budget: WidthBudget, size: tuple[int, int], folder: Path) -> Path:
    """Write a model as a file of a runtime, calibrated on noise; return the path.

    Raises:
        QuantizeError: it cannot be written.
    """
    assert budget.runtime is not None, "checked with the settings"
    noise = torch.randn(NOISE_IMAGES, 3, *size, generator=torch.Generator().manual_seed(0))
    given = ExportSource(
        model,
        torch.zeros(1, 3, *size),
        ModelMetadata(input_size=size),
        lambda: CalibrationBatches([noise]),
    )
    path = folder
    for exporter in _exporters(budget.runtime):
        settings = OnnxInt8Settings(calibration="minmax") if exporter.settings else None
        path = folder / exporter.file_name(given)
        exporter.write(replace(given, settings=settings), path)
        given = replace(given, files={**given.files, exporter.name: path})
    return path


def _exporters(runtime: str) -> list[Exporter]:
    return in_order(with_what_they_are_made_of([runtime], EXPORTERS.load).values())


def _open(path: Path) -> Call:
    """Load a file, in another process; the number of threads is set there."""
    loaded = load_model_file(path)
    return lambda images: loaded.embed(images.numpy())


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds by multiply-accumulates, of files of one runtime on a device.

    Attributes:
        points: (multiply-accumulates, milliseconds), by the first; two or more.
    """

    points: Sequence[tuple[int, float]]

    def at(self, macs: float) -> float:
        """Return the milliseconds at a number of operations, on the line between two files.

        Beyond the smallest and the largest file, it is the time of that file.
        """
        macs = min(max(macs, self.points[0][0]), self.points[-1][0])
        for (low, fast), (high, slow) in pairwise(self.points):
            if macs <= high:
                return fast + (slow - fast) * (macs - low) / (high - low)
        raise AssertionError("the number lies between the first and the last")

    def most_macs(self, limit: float) -> float | None:
        """Return the largest number of operations whose time is within a limit, by the files.

        None if no file is as fast. It is never larger than that of the largest file.
        """
        if self.points[-1][1] <= limit:
            return float(self.points[-1][0])
        for (low, fast), (high, slow) in reversed(list(pairwise(self.points))):
            if fast <= limit:
                return low + (high - low) * (limit - fast) / (slow - fast)
        return None

    def __str__(self) -> str:
        """Return the range that it tells of, in words."""
        times = [milliseconds for _, milliseconds in self.points]
        (low, _), (high, _) = self.points[0], self.points[-1]
        return (
            f"{min(times):.2f} to {max(times):.2f} ms at {low / 1e6:.1f} M to {high / 1e6:.1f} M "
            "MACs"
        )


def read_table(path: Path, runtime: str, threads: int) -> LatencyTable:
    """Read the latencies of a runtime out of the result of a device.

    Where several files have the same number of operations, or a file was timed several times, the
    median of their times counts.

    Args:
        path: ``result.json``, see ``reid-edge benchmark --pack``.
        runtime: name of an exporter of ONNX files.
        threads: of a call; the batch is 1.

    Raises:
        PipelineError: there are not two files of this runtime and number of threads whose
            operations are known and differ.
    """
    result: DeviceResult = read_result(path)
    kind, int8 = RUNTIMES[runtime].kind, runtime != "onnx"
    found: dict[int, list[float]] = {}
    for file in result.files:
        if file.macs is None or (file.kind, file.int8) != (kind, int8):
            continue
        for timing in file.timings:
            if (timing.batch, timing.threads) == (1, threads):
                found.setdefault(file.macs, []).append(timing.median_ms)
    if len(found) < 2:
        raise PipelineError(
            f"{path}: {len(found)} file(s) of {runtime} with a known number of operations were "
            f"timed with batch 1 on {threads} thread(s), and a table has two or more, of "
            "different widths; pack the ONNX files of several, such as osnet_x1_0, osnet_x0_5 and "
            "osnet_x0_25 (reid-edge benchmark FILES --pack FOLDER)"
        )
    return LatencyTable(sorted((macs, median(times)) for macs, times in found.items()))


def macs_by_table(budget: WidthBudget, full: int, section: str) -> float:
    """Return how many operations a table allows within a number of milliseconds.

    Args:
        budget: names the runtime, the table and the milliseconds.
        full: multiply-accumulates at full width.
        section: of the settings, for messages.

    Raises:
        PipelineError: the table cannot be used, or does not tell where that time is.
        PruneError: the full-width model is as fast already.
    """
    assert budget.runtime is not None, "checked with the settings"
    assert budget.table is not None, "asked for with a table alone"
    assert budget.latency_ms is not None, "checked with the settings"
    table, limit = read_table(budget.table, budget.runtime, budget.threads), budget.latency_ms
    macs, largest = table.most_macs(limit), table.points[-1][0]
    what = f"{section}.target.latency_ms: {limit:g} ms is outside of {budget.table}"
    if macs is None:
        raise PipelineError(
            f"{what}, whose files of {budget.runtime} tell of {table}; raise it, or measure a "
            "narrower model, too"
        )
    if full > largest and macs == largest:
        raise PipelineError(
            f"{what}, whose files of {budget.runtime} tell of {table}, and the full-width model "
            f"has {full / 1e6:.1f} M MACs; lower it, or measure a wider model, too"
        )
    refuse_if_fast(table.at(full), budget, section)
    return macs


def refuse_if_fast(milliseconds: float, budget: WidthBudget, section: str) -> None:
    """Raise PruneError if the full-width model is within a limit already."""
    assert budget.latency_ms is not None, "checked with the settings"
    if milliseconds <= budget.latency_ms:
        raise PruneError(
            f"{section}.target.latency_ms: the full-width model takes {milliseconds:.2f} ms as "
            f"{budget.runtime} already, which is within {budget.latency_ms:g}; lower it"
        )

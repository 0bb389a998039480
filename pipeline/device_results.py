"""Latencies of model files on a machine: what ``device_timing.py`` writes, and its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from rich.console import Console

from pipeline.report.text import size
from pipeline.stage_results import Result
from reid_edge.core.errors import PipelineError


class DeviceTiming(Result):
    """The time of a call.

    Attributes:
        batch: images in the call.
        threads: threads of the call.
        median_ms: median over the rounds.
        lower_quartile_ms: a quarter of the rounds were at least as fast.
        upper_quartile_ms: a quarter of the rounds were at least as slow.
    """

    batch: int
    threads: int
    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float


class DeviceFile(Result):
    """A model file on a machine.

    Attributes:
        name: of the file.
        kind: name of its backend.
        sha256: of its content.
        bytes: of all its parts; None where the device does not tell.
        peak_bytes: largest memory with the model, beyond that of the interpreter.
        load_ms: time to load the file and embed the first images.
        lowest_cosine: of the device's embeddings to those of the machine that packed the file.
        problem: why there are no times; empty if there are.
        timings: one for each batch and number of threads.
    """

    name: str
    kind: str
    sha256: str
    bytes: int | None = None
    peak_bytes: int | None = None
    load_ms: float | None = None
    lowest_cosine: float | None = None
    problem: str = ""
    timings: tuple[DeviceTiming, ...] = ()


class DeviceResult(Result):
    """Latencies of model files on a machine (``result.json``).

    Attributes:
        machine: processor, instructions, system and versions, by name.
        rounds: timed calls of each file.
        files: in the order of the pack.
        format: version of this layout.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    machine: dict[str, Any]
    rounds: int
    files: tuple[DeviceFile, ...]
    format: Literal[1] = 1


def read_result(path: Path) -> DeviceResult:
    """Read the result of a device.

    Raises:
        PipelineError: there is no such file, or it is not a result.
    """
    try:
        return DeviceResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PipelineError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise PipelineError(
            f"{path}: not a result of device_timing.py ({where}: {first['msg']})"
        ) from error


def show_table(results: Sequence[DeviceResult]) -> None:
    """Print a row for each file and machine, and a line for each machine."""
    columns = sorted({(t.threads, t.batch) for r in results for f in r.files for t in f.timings})
    headings = [f"b{batch} t{threads}" for threads, batch in columns]
    rows = [("machine", "file", "memory", "cosine", *headings)]
    problems = []
    for result in results:
        machine = str(result.machine.get("name", "?"))
        for file in result.files:
            times = {(t.threads, t.batch): f"{t.median_ms:.1f}" for t in file.timings}
            memory = "-" if file.peak_bytes is None else size(file.peak_bytes)
            cosine = "-" if file.lowest_cosine is None else f"{file.lowest_cosine:.5f}"
            rows.append(
                (machine, file.name, memory, cosine, *(times.get(key, "-") for key in columns))
            )
            if file.problem:
                problems.append(f"{machine}: {file.name}: {file.problem}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += problems
    lines.append(
        "b1 t2: milliseconds of a call of 1 image on 2 threads, the median; memory: the peak, "
        "without the interpreter; cosine: the lowest to the embeddings of the machine that packed "
        "the files"
    )
    for result in results:
        about = result.machine
        lines.append(
            f"{about.get('name', '?')}: {about.get('cpu', '?')}, {about.get('cores', '?')} cores, "
            f"{about.get('architecture', '?')}, {' '.join(about.get('flags', []))}; "
            f"{result.rounds} rounds"
        )
    Console(soft_wrap=True, highlight=False).print("\n".join(lines), markup=False)

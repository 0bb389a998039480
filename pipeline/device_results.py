"""Latencies of model files on a machine: what ``device_timing.py`` writes, and its table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationError

from pipeline.report.text import size
from pipeline.stage_results import Result
from reid_edge.core.errors import PipelineError, one_line
from reid_edge.core.io import write_bytes
from reid_edge.core.tables import FittingTable, output_console

# Folder of a run with the results of devices.
DEVICES = "devices"

logger = logging.getLogger(__name__)


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
        macs: multiply-accumulates for one image; None where they are not known.
        int8: whether activations are quantized in it, where that is known.
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
    macs: int | None = None
    int8: bool = False
    peak_bytes: int | None = None
    load_ms: float | None = None
    lowest_cosine: float | None = None
    problem: str = ""
    timings: tuple[DeviceTiming, ...] = ()


class DeviceMachine(Result):
    """The machine that files were timed on; what it does not tell is "?" or empty.

    Attributes:
        name: of the board or the host.
        cpu: name of the processor.
        architecture: of the processor, such as "aarch64".
        system: operating system and its version.
        python: version of Python.
        cores: number of cores.
        flags: instructions for int8 kernels that the processor has.
        packages: versions of the runtimes, by package.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = "?"
    cpu: str = "?"
    architecture: str = "?"
    system: str = "?"
    python: str = "?"
    cores: int | None = None
    flags: tuple[str, ...] = ()
    packages: dict[str, str] = Field(default_factory=dict)


class DeviceResult(Result):
    """Latencies of model files on a machine (``result.json``).

    Attributes:
        machine: processor, instructions, system and versions.
        rounds: timed calls of each file.
        files: in the order of the pack.
        format: version of this layout.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    machine: DeviceMachine
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


@dataclass(frozen=True)
class DeviceTable:
    """Results of devices beside each other.

    Attributes:
        headings: of the columns.
        rows: one for each machine and file.
        lines: what is to be said below them.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


def device_table(results: Sequence[DeviceResult]) -> DeviceTable:
    """Return a row for each file and machine, and a line for each machine."""
    columns = sorted({(t.threads, t.batch) for r in results for f in r.files for t in f.timings})
    rows: list[tuple[str, ...]] = []
    lines = []
    for result in results:
        machine = result.machine.name
        for file in result.files:
            times = {(t.threads, t.batch): f"{t.median_ms:.1f}" for t in file.timings}
            memory = "-" if file.peak_bytes is None else size(file.peak_bytes)
            cosine = "-" if file.lowest_cosine is None else f"{file.lowest_cosine:.5f}"
            rows.append(
                (machine, file.name, memory, cosine, *(times.get(key, "-") for key in columns))
            )
            if file.problem:
                lines.append(f"{machine}: {file.name}: {file.problem}")
    lines.append(
        "b1 t2: milliseconds of a call of 1 image on 2 threads, the median; memory: the peak, "
        "without the interpreter; cosine: the lowest to the embeddings of the machine that packed "
        "the files"
    )
    for result in results:
        about = result.machine
        cores = "?" if about.cores is None else about.cores
        lines.append(
            f"{about.name}: {about.cpu}, {cores} cores, {about.architecture}, "
            f"{' '.join(about.flags)}; {result.rounds} rounds"
        )
    timed = (f"b{batch} t{threads}" for threads, batch in columns)
    headings = ("machine", "file", "memory", "cosine", *timed)
    return DeviceTable(headings, tuple(rows), tuple(lines))


def show_table(results: Sequence[DeviceResult]) -> None:
    """Print the table of results and the lines below it."""
    table, console = device_table(results), output_console()
    console.print(
        FittingTable("", list(table.headings), list(table.rows), left=2, drop=["memory", "cosine"])
    )
    for line in table.lines:
        console.print(line, markup=False, highlight=False)


def keep_results(paths: Sequence[Path], results: Sequence[DeviceResult], run: Path) -> None:
    """Copy results of devices into a run's folder, from where its page shows them.

    Args:
        paths: that the results are from; a result of the same file name is replaced.
        results: one for each path.
        run: the folder.

    Raises:
        PipelineError: two files have the same name.
        OSError: the folder cannot be written to.
    """
    if len({path.stem for path in paths}) < len(paths):
        raise PipelineError("two results have the same file name; rename one")
    (run / DEVICES).mkdir(exist_ok=True)
    for path, result in zip(paths, results, strict=True):
        write_bytes(run / DEVICES / f"{path.stem}.json", result.to_json())


def kept_results(run: Path) -> list[DeviceResult]:
    """Return the results of devices in a run's folder; what cannot be read is left out."""
    found = []
    for path in sorted((run / DEVICES).glob("*.json")):
        try:
            found.append(read_result(path))
        except PipelineError as error:
            logger.warning("%s; the report leaves it out", one_line(error))
    return found

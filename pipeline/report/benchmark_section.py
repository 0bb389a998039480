"""The benchmark in the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.report.accuracy import percent
from pipeline.report.pareto import Chart, pareto_chart
from pipeline.report.text import size
from pipeline.stage import ReportSection
from pipeline.stage_results import (
    BenchmarkResult,
    StageRecord,
    headline,
    main_measure,
    main_value,
)
from reid_edge.core.tables import FittingTable
from reid_edge.metrics.results import Distance, Evaluation

if TYPE_CHECKING:
    from quantize.measurements import Timing

RUNTIMES = {
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "executorch": "ExecuTorch",
    "ncnn": "NCNN",
    "mnn": "MNN",
    "litert": "LiteRT",
}


def benchmark_cells(record: StageRecord) -> list[tuple[str, ...]]:
    """Return one row a file: what it is for, how large, how good, how fast."""
    distance = shown_distance(record)
    return [
        (
            row.name,
            row.meant_for,
            size(row.bytes),
            "-" if row.peak_bytes is None else size(row.peak_bytes),
            percent(main_value(row.metrics, "person", distance)),
            *(timing_text(timing) for timing in row.timings),
        )
        for row in record.result_as(BenchmarkResult).benchmark.rows
    ]


def timing_headings(record: StageRecord) -> list[str]:
    """Return what heads the columns of times."""
    first = record.result_as(BenchmarkResult).benchmark.rows[0].timings
    return [f"batch {t.batch}, {threads_text(t.threads)}" for t in first]


def accuracy_headings(record: StageRecord) -> list[str]:
    """Return what heads the columns of accuracy."""
    first = record.result_as(BenchmarkResult).benchmark.rows[0].metrics
    measure = main_measure(first, "person")
    return [measure, "rank-1" if first.label_free is None else "same nearest"]


def accuracy_values(metrics: Evaluation, distance: Distance) -> list[float | None]:
    """Return the values of the columns of accuracy."""
    values = headline(metrics, distance)
    second = "rank1" if metrics.label_free is None else "same nearest"
    return [main_value(metrics, "person", distance), values.get(second)]


def threads_text(count: int) -> str:
    """Return a number of threads for people."""
    return "1 thread" if count == 1 else f"{count} threads"


def timing_text(timing: Timing) -> str:
    """Return the median, the quartiles and the comparison with the first row."""
    spread = f"{timing.lower_quartile_ms:.1f}-{timing.upper_quartile_ms:.1f}"
    text = f"{timing.median_ms:.1f} ms ({spread})\n{timing.speedup:.1f} x"
    if timing.batch > 1:
        text += f", {timing.images_per_second:.0f}/s"
    return text


def benchmark_lines(record: StageRecord) -> list[str]:
    """Return the lines below the table: what was measured, how, on what."""
    benchmark = record.result_as(BenchmarkResult).benchmark
    machine = benchmark.machine
    versions = {name: getattr(machine, key) for key, name in RUNTIMES.items()}
    runtimes = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [
        f"median (quartiles) of {benchmark.rounds} rounds in turn, and how many times as fast "
        f"as {benchmark.rows[0].name}; images per second; each file in a process of its own",
        "peak memory: at batch 1 on 1 thread, loading included, beyond the interpreter with its "
        "libraries",
        f"machine: {machine.cpu}, {machine.cores} cores, {machine.architecture}, "
        f"{' '.join(machine.flags)}; {runtimes}",
    ]
    if machine.architecture == "x86_64" and any(r.engine == "qnnpack" for r in benchmark.rows):
        lines.append(
            "QNNPACK is built for ARM: its time on this x86-64 machine says little about the "
            "device, measure there"
        )
    return lines


def shown_distance(record: StageRecord) -> Distance:
    """Return the distance that the stage's accuracy is shown for."""
    evaluation = record.settings["evaluation"]
    assert isinstance(evaluation, dict), "a section"
    return "cosine" if evaluation["distance"] == "cosine" else "euclidean"


def benchmark_chart(record: StageRecord) -> Chart:
    """Return accuracy against latency, as it is drawn."""
    rows = record.result_as(BenchmarkResult).benchmark.rows
    return pareto_chart(rows, shown_distance(record))


BENCHMARK_SECTION = ReportSection(
    tables=lambda record: [
        FittingTable(
            "Benchmark",
            [
                "file", "meant for", "size", "peak memory", accuracy_headings(record)[0],
                *timing_headings(record),
            ],
            benchmark_cells(record),
            left=2,
            drop=["meant for", "peak memory", *reversed(timing_headings(record)[1:]), "size"],
            breaking=["meant for"],
        )
    ],
    lines=benchmark_lines,
    template="benchmark.html.j2",
    filters=(accuracy_headings, accuracy_values, benchmark_chart, timing_headings, timing_text,
             threads_text, benchmark_lines, shown_distance),
)  # fmt: skip

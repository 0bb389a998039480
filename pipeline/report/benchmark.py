"""The benchmark as a table for the terminal."""

from typing import Any

from rich.table import Table

from pipeline.report.tables import size


def benchmark_table(benchmark: dict[str, Any]) -> Table:
    """Return one row a file: what it is for, how large, how good, how fast."""
    table = Table(title="Benchmark", title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("meant for")
    for heading in ("size", "peak memory", "mAP", *timing_headings(benchmark)):
        table.add_column(heading, justify="right")
    for row in benchmark["rows"]:
        table.add_row(
            row["name"],
            row["meant_for"],
            size(row["bytes"]),
            "-" if row["peak_bytes"] is None else size(row["peak_bytes"]),
            f"{row['mAP']:.1%}",
            *(timing_text(timing) for timing in row["timings"]),
        )
    return table


def timing_headings(benchmark: dict[str, Any]) -> list[str]:
    """Return what heads the columns of times."""
    first = benchmark["rows"][0]["timings"]
    return [f"batch {t['batch']}, {threads_text(t['threads'])}" for t in first]


def threads_text(count: int) -> str:
    """Return a number of threads for people."""
    return "1 thread" if count == 1 else f"{count} threads"


def timing_text(timing: dict[str, Any]) -> str:
    """Return the median, the quartiles and the comparison with the first row."""
    spread = f"{timing['lower_quartile_ms']:.1f}-{timing['upper_quartile_ms']:.1f}"
    text = f"{timing['median_ms']:.1f} ms ({spread})\n{timing['speedup']:.1f} x"
    if timing["batch"] > 1:
        text += f", {timing['images_per_second']:.0f}/s"
    return text


def _runtimes(machine: dict[str, Any]) -> str:
    """Return what ran the files, with versions; an earlier run has not noted all of them."""
    names = {
        "torch": "PyTorch",
        "onnxruntime": "ONNX Runtime",
        "openvino": "OpenVINO",
        "executorch": "ExecuTorch",
    }
    return ", ".join(f"{name} {machine[key]}" for key, name in names.items() if machine.get(key))


def benchmark_footnotes(benchmark: dict[str, Any]) -> list[str]:
    """Return the lines below the table: what was measured, how, on what."""
    machine = benchmark["machine"]
    first = benchmark["rows"][0]["name"]
    lines = [
        f"median (quartiles) of {benchmark['rounds']} rounds in turn, and how many times as fast "
        f"as {first}; images per second; each file in a process of its own",
        "peak memory: at batch 1 on 1 thread, loading included, beyond the interpreter with its "
        "libraries",
        f"machine: {machine['cpu']}, {machine['cores']} cores, {machine['architecture']}, "
        f"{' '.join(machine['flags'])}; {_runtimes(machine)}",
    ]
    if machine["architecture"] == "x86_64" and any(
        row["engine"] == "qnnpack" for row in benchmark["rows"]
    ):
        lines.append(
            "QNNPACK is built for ARM: what it takes on this x86-64 machine says little about the "
            "device, measure there"
        )
    return lines

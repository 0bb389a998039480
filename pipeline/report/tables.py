"""The tables that the terminal shows."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from pipeline.plan import Plan
from pipeline.report.accuracy import accuracy_columns, describe_accuracy, percent


def closing_table(story: dict[str, Any]) -> Table:
    """Return one row a stage: size, accuracy, latency."""
    table = Table(title=escape(f"Run {story['name']}"), title_justify="left")
    table.add_column("stage", no_wrap=True)
    accuracy = accuracy_columns(story["task"])
    names = [name for name, _ in accuracy]
    for heading in ("input", "parameters", "MACs", "file", *names, "latency", "took"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in story["rows"]:
        table.add_row(
            row["stage"] + (" (stale)" if row["stale"] else ""),
            f"{row['input_size'][0]} x {row['input_size'][1]}",
            f"{row['parameters']:,}",
            f"{row['macs'] / 1e6:.1f} M",
            size(row["bytes"]),
            *(percent(value(row)) for _, value in accuracy),
            f"{row['latency_ms']:.1f} ms" if row["latency_ms"] is not None else "-",
            f"{row['seconds']:.0f} s" + ("*" if row["continued"] else ""),
        )
    return table


def size(count: int) -> str:
    """Return a file size for people."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def footnotes(story: dict[str, Any]) -> list[str]:
    """Return the lines below the closing table: what was measured, on what."""
    lines = [describe_accuracy(story)]
    lines += [f"{row['stage']} is stale: {row['stale']}" for row in story["rows"] if row["stale"]]
    lines += [row["note"] for row in story["rows"] if row["note"]]
    if any(row["continued"] for row in story["rows"]):
        lines.append("*: since the last interruption")
    if story["machine"]:
        machine = story["machine"]
        lines.append(
            f"latency: batch 1, {machine.get('threads', 1)} thread(s), "
            f"{machine.get('cpu', 'unknown CPU')}; float rows run in eager PyTorch, int8 as "
            "TorchScript"
        )
    lines += _int8_latency(story)
    if story["quantization"]:
        lines.append(f"int8: {story['quantization']['summary']}")
        lines += _int8_variants(story["quantization"])
    return lines


def _int8_variants(quantization: dict[str, Any]) -> list[str]:
    """Say how near to the float model int8 is, and which variant to it was the better one."""
    if quantization.get("verdict"):
        return [f"int8: {quantization['verdict']}"]
    agreement = quantization.get("variants", {}).get("static", {}).get("agreement")
    if not agreement:
        return []
    return [
        f"int8: cosine to the float model {1 - agreement['mean_cosine_error']:.4f} on average, "
        f"{1 - agreement['largest_cosine_error']:.4f} at worst, on {agreement['images']} "
        "training images held back"
    ]


def _int8_latency(story: dict[str, Any]) -> list[str]:
    """Say on which engine the int8 file was timed, and what another one makes of it."""
    if not story["quantization"] or "quantize" not in story["latency"]:
        return []
    engine = story["quantization"]["engine"]
    machine = story["machine"]
    lines = []
    if engine == "qnnpack" and machine.get("architecture") == "x86_64":
        lines.append(
            "int8 latency: QNNPACK is built for ARM; what it takes on this x86-64 machine says "
            "little about the device, measure there"
        )
    for name, times in story["latency"].items():
        stage, comma, other = name.partition(", ")
        if stage == "quantize" and comma:
            lines.append(
                f"int8 latency: the same file on the {other} engine takes "
                f"{times['median_ms']:.1f} ms, {1 / times['ratio']:.1f} times as fast as the first "
                "row"
            )
    return lines


def plan_table(plan: Plan, widths: list[dict[str, int]] | None) -> list[Table]:
    """Return what would run, and the planned channels by iteration if pruning is part of it."""
    table = Table(title="Plan", title_justify="left")
    for heading in ("stage", "action", "why", "starts from"):
        table.add_column(heading)
    for step in plan.steps:
        table.add_row(step.stage, step.action, escape(step.reason), step.parent or "")
    for stage, reason in plan.stale.items():
        table.add_row(stage, "stale, not asked for", escape(reason), "")
    return [table] if widths is None else [table, widths_table(widths)]


def widths_table(widths: list[dict[str, int]]) -> Table:
    """Return the layers' channels at the start and after each iteration."""
    table = Table(title="Channels by iteration", title_justify="left")
    table.add_column("layer", no_wrap=True)
    table.add_column("now", justify="right")
    for number in range(1, len(widths)):
        table.add_column(str(number), justify="right")
    for name in widths[0]:
        row = [str(step[name]) for step in widths]
        if len(set(row)) > 1:
            table.add_row(name, *row)
    return table

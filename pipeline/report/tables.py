"""The tables that the terminal shows."""

from collections.abc import Mapping

from pipeline.plan import Plan
from pipeline.report.accuracy import accuracy_columns, describe_accuracy, percent
from pipeline.report.contents import Report
from pipeline.report.text import size
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord
from reid_edge.core.tables import FittingTable


def closing_table(report: Report) -> FittingTable:
    """Return one row a stage: size, accuracy, latency."""
    accuracy = accuracy_columns(report.task)
    names = [name for name, _ in accuracy]
    return FittingTable(
        f"Run {report.name}",
        ["stage", "input", "parameters", "MACs", "file", *names, "latency", "took"],
        [
            (
                row.stage + (" (stale)" if row.stale else ""),
                f"{row.input_size[0]} x {row.input_size[1]}",
                f"{row.model.parameters:,}",
                f"{row.model.macs / 1e6:.1f} M",
                size(row.model.bytes),
                *(percent(value(row)) for _, value in accuracy),
                f"{row.latency.median_ms:.1f} ms" if row.latency is not None else "-",
                f"{row.seconds:.0f} s" + ("*" if row.resumed else ""),
            )
            for row in report.rows
        ],
        drop=["took", "MACs", "input", "parameters", *names[2:][::-1], "file"],
    )


def footnotes(run: RunDir, report: Report, records: Mapping[str, StageRecord]) -> list[str]:
    """Return the lines below the closing table: what was measured, on what.

    Args:
        run: whose stages they are.
        report: of the run.
        records: of the stages with a result in the report.
    """
    lines = [describe_accuracy(report)]
    lines += [f"{row.stage} is stale: {row.stale}" for row in report.rows if row.stale]
    lines += [result.note for result in report.results.values() if result.note]
    if any(row.resumed for row in report.rows):
        lines.append("*: since the last interruption")
    if report.latency is not None:
        machine = report.latency.machine
        lines.append(
            f"latency: batch 1, {machine.threads} thread(s), {machine.cpu}; float rows run in "
            "eager PyTorch, int8 as TorchScript"
        )
    for name, record in records.items():
        lines += run.stages[name].report_section.footnotes(record, report.latency)
    return lines


def plan_table(plan: Plan) -> FittingTable:
    """Return what would run."""
    rows: list[tuple[str, ...]] = [
        (step.stage, step.action, step.reason, step.parent or "") for step in plan.steps
    ]
    rows += [(stage, "stale, not asked for", reason, "") for stage, reason in plan.stale.items()]
    headings = ["stage", "action", "why", "starts from"]
    return FittingTable("Plan", headings, rows, left=4, drop=["starts from"], breaking=["why"])

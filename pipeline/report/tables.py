"""The tables that the terminal shows."""

from collections.abc import Mapping

from pipeline.plan import Plan
from pipeline.report.accuracy import accuracy_columns, describe_accuracy, percent
from pipeline.report.contents import Report
from pipeline.report.text import size
from pipeline.run_clock import duration
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord
from pipeline.time_estimate import Estimate
from reid_edge.core.tables import FittingTable
from reid_edge.data.schema import ReidData, count_persons


def closing_table(report: Report) -> FittingTable:
    """Return one row a stage: size, accuracy, latency."""
    accuracy = accuracy_columns(report.task, report.measure)
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
    for ranks in sorted({record.ranks for record in records.values()} - {1}):
        together = ", ".join(name for name, record in records.items() if record.ranks == ranks)
        lines.append(
            f"{together} trained in {ranks} processes; another number makes no stage stale, and "
            "would have given other bits"
        )
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


def plan_table(plan: Plan, estimates: Mapping[str, Estimate]) -> FittingTable:
    """Return what would run, and about how long it takes."""
    rows: list[tuple[str, ...]] = [
        (
            step.stage,
            step.action,
            step.reason,
            step.parent or "",
            duration(estimates[step.stage].seconds) if step.stage in estimates else "-",
        )
        for step in plan.steps
    ]
    rows += [
        (stage, "stale, not asked for", reason, "", "-") for stage, reason in plan.stale.items()
    ]
    headings = ["stage", "action", "why", "starts from", "about"]
    return FittingTable("Plan", headings, rows, left=4, drop=["starts from"], breaking=["why"])


def image_counts(data: ReidData) -> str:
    """Return the line on the images of a plan."""
    return (
        f"{len(data.train):,} training images of {count_persons(data.train):,} identities, "
        f"{len(data.query):,} queries, {len(data.gallery):,} gallery images"
    )


def time_lines(estimates: Mapping[str, Estimate]) -> list[str]:
    """Return the line on how long a command takes, with where the numbers come from."""
    if not estimates:
        return []
    total = sum(estimate.seconds for estimate in estimates.values())
    sources: dict[str, list[str]] = {}
    for stage, estimate in estimates.items():
        sources.setdefault(estimate.source, []).append(stage)
    by = "; ".join(f"{', '.join(stages)}: {source}" for source, stages in sources.items())
    return [f"all of it takes about {duration(total)} ({by})"]

"""The first screen of the page: from what to what, how much smaller and faster, at which cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.report.contents import Report, ReportRow
from pipeline.report.stage_bars import (
    StageBars,
    model_name,
    shown_distance,
    stage_bars,
)
from pipeline.report.text import size
from pipeline.stage_results import (
    LIKE_TEACHER,
    BenchmarkResult,
    BenchmarkRow,
    StageRecord,
    main_value,
)
from reid_edge.metrics.results import Evaluation

# Points of accuracy that a file may lose to the last model and still be the one of the headline.
TOLERATED_LOSS = 0.01
# A benchmark in which the first model takes so many times its latency in the run met other work.
BUSY_RATIO = 1.5
SMALL_LOSS, LARGE_LOSS = 0.01, 0.03  # of the whole run, for the verdict


@dataclass(frozen=True)
class Summary:
    """What the first screen says.

    Attributes:
        before: name of the first model.
        after: name of the model in the file that is compared.
        smaller: how many times smaller, such as "7.9"; empty if it is not known.
        size: both sizes and the file, in words.
        faster: how many times faster; empty if it is not known.
        speed: both latencies, the file, batch and threads, in words.
        cost: points of accuracy lost, such as "0.8"; empty if nothing is compared.
        accuracy: both values, in words.
        measure: see :func:`pipeline.stage_results.main_measure`.
        gained: whether accuracy was gained.
        verdict: one sentence.
        rating: "good", "fair", "poor", or "open" while nothing can be said.
        measured_on: machine and choice of the file, in words.
        bars: of all stages.
    """

    before: str
    after: str
    smaller: str
    size: str
    faster: str
    speed: str
    cost: str
    accuracy: str
    measure: str
    gained: bool
    verdict: str
    rating: Literal["good", "fair", "poor", "open"]
    measured_on: str
    bars: tuple[StageBars, ...]


@dataclass(frozen=True)
class _Numbers:
    """What is compared of two files."""

    name: str
    bytes: int
    accuracy: float | None
    milliseconds: float | None
    conditions: str


def summarise(report: Report, records: Mapping[str, StageRecord]) -> Summary | None:
    """Return what the first screen says, or None while there is no model.

    The headline compares the full-width model with the fastest file that loses at most one point
    to the last model, among those of the stage ``benchmark``; without that stage, with the last
    model.

    Args:
        report: of the run.
        records: of the stages with a result in the report.
    """
    if not report.rows:
        return None
    first, last = report.rows[0], report.rows[-1]
    measure = report.measure
    benchmark = records["benchmark"].result_as(BenchmarkResult) if "benchmark" in records else None
    rows = benchmark.benchmark.rows if benchmark is not None else ()
    busy, name = "", model_name(last.model.name)
    if rows and rows[0].timings:
        before, after = _of_file(rows[0], report), _of_file(_best(rows, report, last), report)
        busy, name = _about_load(rows[0], report), _name_in(after.name, report)
        assert benchmark is not None, "it has rows"
        cpu = benchmark.benchmark.machine.cpu
        measured_on = (
            f"Measured on {cpu}. The file is the fastest of the benchmark that loses at most "
            f"{100 * TOLERATED_LOSS:.0f} point of {measure} to the last model. It is compared with "
            f"{rows[0].name}, meant for {rows[0].meant_for}.{busy}"
        )
    else:
        before, after = _of_row(first, report), _of_row(last, report)
        cpu = report.latency.machine.cpu if report.latency is not None else ""
        measured_on = f"Measured on {cpu}." if cpu else ""
    smaller = before.bytes / after.bytes if after.bytes and len(report.rows) > 1 else None
    faster = None
    if before.milliseconds and after.milliseconds and before.name != after.name:
        faster = before.milliseconds / after.milliseconds
    lost = None
    if before.accuracy is not None and after.accuracy is not None and before.name != after.name:
        # Rounded as it is shown, so that words and number agree.
        lost = round(before.accuracy - after.accuracy, 3)
        if measure == "EER":  # a lower one is better
            lost = -lost
    verdict, rating = _verdict(report, smaller, faster, lost, measure, busy=bool(busy))
    return Summary(
        before=model_name(first.model.name),
        after=name,
        smaller=f"{smaller:.1f}" if smaller else "",
        size=f"{size(before.bytes)} → {size(after.bytes)} ({after.name})",
        faster=f"{faster:.1f}" if faster else "",
        speed=(
            f"{before.milliseconds:.1f} ms ({before.name}) → {after.milliseconds:.1f} ms "
            f"({after.name}), {after.conditions}"
            if before.milliseconds and after.milliseconds
            else ""
        ),
        cost=f"{abs(100 * lost):.1f}" if lost is not None and measure != LIKE_TEACHER else "",
        accuracy=(
            f"{before.accuracy:.1%} → {after.accuracy:.1%}"
            if before.accuracy is not None and after.accuracy is not None
            else ""
        ),
        measure=measure,
        gained=lost is not None and lost < 0,
        verdict=verdict,
        rating=rating,
        measured_on=measured_on,
        bars=stage_bars(report),
    )


def _name_in(file: str, report: Report) -> str:
    """Return the name of the model in a file of the benchmark."""
    for row in report.rows:
        if file == row.model.file:
            return model_name(row.model.name)
    last = model_name(report.rows[-1].model.name)
    stage, _, name = file.partition("/")
    made = report.results[stage].files if stage in report.results else ()
    for one in made:
        if one.name in (name, file):
            return last.removesuffix(" int8") + (" int8" if one.int8 else "")
    return last


def _about_load(first: BenchmarkRow, report: Report) -> str:
    """Return a sentence if the first model was much slower in the benchmark than in the run."""
    timing, latency = first.timings[0], report.rows[0].latency
    if latency is None or report.latency is None or first.name != report.rows[0].model.file:
        return ""
    same = (timing.batch, timing.threads) == (1, report.latency.threads)
    if not same or timing.median_ms <= BUSY_RATIO * latency.median_ms:
        return ""
    return (
        f" The machine was busy during the benchmark: {first.name} took {timing.median_ms:.1f} ms "
        f"there, and {latency.median_ms:.1f} ms before; measure again with --from benchmark."
    )


def _of_file(row: BenchmarkRow, report: Report) -> _Numbers:
    timing = row.timings[0]
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    return _Numbers(
        row.name, row.bytes, main_value(row.metrics, report.task, shown_distance(report)),
        timing.median_ms, f"batch {timing.batch}, {threads}",
    )  # fmt: skip


def _of_row(row: ReportRow, report: Report) -> _Numbers:
    threads = report.latency.threads if report.latency is not None else 1
    return _Numbers(
        row.model.file, row.model.bytes,
        main_value(row.model.metrics, report.task, shown_distance(report)),
        row.latency.median_ms if row.latency is not None else None,
        f"batch 1, {'1 thread' if threads == 1 else f'{threads} threads'}",
    )  # fmt: skip


def _best(rows: tuple[BenchmarkRow, ...], report: Report, last: ReportRow) -> BenchmarkRow:
    """Return the fastest file that is nearly as accurate as the last model."""
    distance = shown_distance(report)
    sign = -1 if report.measure == "EER" else 1

    def quality(metrics: Evaluation) -> float:
        value = main_value(metrics, report.task, distance)
        return sign * value if value is not None else -1.0

    least = quality(last.model.metrics) - TOLERATED_LOSS
    good = [row for row in rows[1:] if row.timings and quality(row.metrics) >= least]
    return min(good or rows, key=lambda row: row.timings[0].median_ms)


def _verdict(
    report: Report,
    smaller: float | None,
    faster: float | None,
    lost: float | None,
    measure: str,
    *,
    busy: bool,
) -> tuple[str, Literal["good", "fair", "poor", "open"]]:
    """Return one sentence on the run, and how good that is."""
    if lost is None or smaller is None:
        return "Only one model so far: nothing to compare yet.", "open"
    gains = [f"{smaller:.1f} times smaller"]
    if faster is not None:
        gains.append(f"{faster:.1f} times faster")
    points = f"{100 * abs(lost):.1f} points of {measure}"
    cost = f"at a cost of {points}" if lost > 0 else f"and better by {points}"
    if measure == LIKE_TEACHER:
        found = main_value(report.rows[-1].model.metrics, report.task, shown_distance(report))
        return (
            f"{' and '.join(gains)}. Of the ten images that the teacher finds nearest, "
            f"the last model has {found or 0:.0%} among its own ten. What that is worth in "
            "accuracy, images without identities cannot say.",
            "open",
        )
    text = f"{' and '.join(gains)}, {cost if lost else f'at no cost in {measure}'}"
    rejected = sum(bool(file.problems) for r in report.results.values() for file in r.files)
    stale = [row.stage for row in report.rows if row.stale]
    if faster is not None and faster < 1:
        return f"{text}: not faster on this machine.", "poor"
    if lost > LARGE_LOSS:
        return f"{text}: a high price; train longer, or cut in more steps.", "poor"
    if rejected or stale:
        reason = (
            f"{rejected} file(s) are outside their limits"
            if rejected
            else f"{', '.join(stale)} no longer fit the settings"
        )
        return f"{text}, but {reason}.", "fair"
    if busy:
        return f"{text}, but the machine was busy while latency was measured.", "fair"
    if lost > SMALL_LOSS:
        return f"{text}: a fair price.", "fair"
    return f"{text}: a good trade.", "good"

"""The first lines of a compression: how small, how fast, how like its teacher, may it be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.adapt_results import AdaptResult
from pipeline.report.contents import Report
from pipeline.report.text import size
from pipeline.stage_results import BenchmarkResult, BenchmarkRow

if TYPE_CHECKING:
    from reid_edge.adaptation.stability import Stability
    from reid_edge.metrics.results import LabelFreeResult

# Of the teacher's ten nearest images, the share that the small model has to have among its own.
# Less is asked for where light and crop alone change the teacher's nearest images: then so many
# times the share that stays (docs/results/without-labels.md).
GOOD_OVERLAP, FAIR_OVERLAP = 0.7, 0.5
GOOD_TIMES, FAIR_TIMES = 2.5, 1.5
# Of the share of its nearest images that stays, what the small model has to have of its teacher's.
GOOD_STABILITY, FAIR_STABILITY = 0.9, 0.7
# Of the teacher's nearest images, as many times those that stay by chance have to stay.
LEAST_TIMES_CHANCE = 2.0
# A file may have so much less of it than the best one, and still be the one that is named.
TOLERATED_OVERLAP = 0.05
LEAST_SPREAD = 0.5  # of the teacher's variance
FULL_WIDTH = ("train", "adapt")  # stages whose models are the teacher, or its teacher
LIMITS = (
    "limits: nothing here says how well the teacher itself tells these persons apart; label a few "
    "hundred images of this place and run reid-edge evaluate before anything depends on it"
)


@dataclass(frozen=True)
class Verdict:
    """Whether a small model may be used, as far as that can be said without labels.

    Attributes:
        word: "yes", "with care" or "no".
        reason: in one clause.
    """

    word: str
    reason: str


def judge_likeness(
    measured: LabelFreeResult | None,
    stability: Stability | None,
    rejected: int,
    problem: str = "",
) -> Verdict:
    """Return whether a model may take its teacher's place.

    Args:
        measured: on images set apart; None if it was not measured.
        stability: on some of these images; None if it was not measured.
        rejected: number of files that do not agree with the model.
        problem: why the images are not of several persons; empty if they may be.
    """
    if problem:
        return Verdict("no", problem)
    if measured is None:
        return Verdict("no", "it was not compared with its teacher")
    if measured.spread < LEAST_SPREAD * measured.teacher_spread:
        return Verdict("no", "its embeddings have come together: all images look alike to it")
    overlap = measured.nearest_overlap if stability is None else stability.overlap
    found = f"{overlap:.0%} of its teacher's ten nearest images are among its own"
    good, fair = GOOD_OVERLAP, FAIR_OVERLAP
    warnings = []
    if stability is not None:
        kept, own = stability.teacher, stability.student
        if kept < LEAST_TIMES_CHANCE * stability.chance:
            return Verdict(
                "no",
                "light and crop change nearly all of the teacher's nearest images: it does not "
                "tell these persons apart",
            )
        found += f"; of the teacher's, {kept:.0%} stay when light and crop change"
        good, fair = min(good, GOOD_TIMES * kept), min(fair, FAIR_TIMES * kept)
        if own < GOOD_STABILITY * kept:
            less = f"when light and crop change, {own:.0%} of its nearest images stay, and "
            less += f"{kept:.0%} of its teacher's"
            if own < FAIR_STABILITY * kept:
                return Verdict("no", f"{less}; give it more images or more time")
            warnings.append(less)
    if overlap < fair:
        return Verdict("no", f"only {found}; give it more images or more time")
    if overlap < good or warnings:
        warnings.append("more images or more time would help")
    if rejected:
        warnings.append(f"{rejected} file(s) do not agree with the model")
    if warnings:
        return Verdict("with care", "; ".join([found, *warnings]))
    return Verdict("yes", f"where its teacher may: {found}")


def named_file(report: Report) -> BenchmarkRow | None:
    """Return the file that the first lines name; None if no file was timed."""
    rows = benchmark_rows(report)
    return best_file(rows) if rows else None


def benchmark_rows(report: Report) -> tuple[BenchmarkRow, ...]:
    """Return the timed files of a run."""
    benchmark = report.results.get("benchmark")
    return benchmark.benchmark.rows if isinstance(benchmark, BenchmarkResult) else ()


def compress_lines(
    report: Report, stability: Stability | None, hours: float, seconds: float, problem: str
) -> list[str]:
    """Return the lines.

    Args:
        report: of the finished run.
        stability: see `judge_likeness`.
        hours: that were given.
        seconds: that were spent.
        problem: see `judge_likeness`.
    """
    first, last = report.rows[0], report.rows[-1]
    benchmark = report.results.get("benchmark")
    lines = []
    measured, after = last.model.metrics.label_free, named_file(report)
    before = next(iter(benchmark_rows(report)), None)
    if before is not None and after is not None and before.timings and after.timings:
        measured = after.metrics.label_free or measured
        old, new = before.timings[0].median_ms, after.timings[0].median_ms
        lines += [
            f"how small: {size(before.bytes)} -> {size(after.bytes)}, "
            f"{before.bytes / after.bytes:.1f} times smaller ({after.name}); parameters "
            f"{first.model.parameters:,} -> {last.model.parameters:,}",
            f"how fast: {old:.1f} ms -> {new:.1f} ms for an image on one thread, {old / new:.1f} "
            f"times as fast ({benchmark_machine(benchmark)})",
        ]
    verdict = judge_likeness(
        measured,
        stability,
        sum(bool(file.problems) for one in report.results.values() for file in one.files),
        problem,
    )
    lines.append(f"how like its teacher: {likeness(measured)}")
    lines.append(f"may it be used: {verdict.word}, {verdict.reason}")
    lines.append(LIMITS)
    adapted = report.results.get("adapt")
    if isinstance(adapted, AdaptResult):
        lines.append(adapted.note)
    else:
        lines.append("adapt: left out; the teacher is the model as it was given")
    spent, given = seconds / 60, 60 * hours
    over = f", {spent - given:.0f} more than were given" if spent > given else ""
    lines.append(f"time: {spent:.0f} of {given:.0f} min{over}")
    return lines


def best_file(rows: tuple[BenchmarkRow, ...]) -> BenchmarkRow:
    """Return the fastest file that is about as like the teacher as the best one."""

    def overlap(row: BenchmarkRow) -> float:
        measured = row.metrics.label_free
        return -1.0 if measured is None else measured.nearest_overlap

    compact = [row for row in rows if row.name.partition("/")[0] not in FULL_WIDTH and row.timings]
    least = max(map(overlap, compact), default=0.0) - TOLERATED_OVERLAP
    return min(
        (row for row in compact if overlap(row) >= least),
        key=lambda row: row.timings[0].median_ms,
        default=rows[-1],
    )


def benchmark_machine(result: object) -> str:
    """Return the processor that a benchmark ran on."""
    return result.benchmark.machine.cpu if isinstance(result, BenchmarkResult) else ""


def likeness(measured: LabelFreeResult | None) -> str:
    """Return the label-free figures in words."""
    if measured is None:
        return "not measured"
    cosine = "" if measured.mean_cosine is None else f"cosine {measured.mean_cosine:.3f}, "
    text = (
        f"{cosine}same nearest image {measured.same_nearest:.0%}, ten nearest in common "
        f"{measured.nearest_overlap:.0%}, rank correlation {measured.rank_correlation:.3f}"
    )
    if measured.tracks is not None:
        text += (
            f"; a track's other half is found with mAP {measured.tracks.mean_average_precision:.1%}"
            f", by the teacher with {measured.tracks.teacher_mean_average_precision:.1%}"
        )
    return f"{text} (on {measured.images:,} images set apart)"

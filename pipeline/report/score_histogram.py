"""How alike pairs of the same and of different persons are, as a chart."""

from __future__ import annotations

from markupsafe import Markup

from pipeline.found_images import BINS, FoundImages
from pipeline.report.charts import Series, Value, chart
from reid_edge.metrics.results import Evaluation


def score_histogram(name: str, found: FoundImages, metrics: Evaluation | None) -> Markup:
    """Draw the scores of same and different persons, with the thresholds of verification.

    Args:
        name: of the model.
        found: scores of its pairs.
        metrics: of the same model, which have the thresholds.
    """
    series = []
    for words, counts in (("same person", found.genuine), ("different persons", found.impostor)):
        total = sum(counts)
        filled = [number for number, count in enumerate(counts) if count]
        if not filled:
            continue
        bins = range(max(filled[0] - 1, 0), min(filled[-1] + 2, BINS))
        values = [
            Value(
                -1 + 2 * bin_number / BINS, 100 * counts[bin_number] / total,
                f"{words}, cosine {-1 + 2 * bin_number / BINS:.3f} to "
                f"{-1 + 2 * (bin_number + 1) / BINS:.3f}: {counts[bin_number]:,} of {total:,}",
            )
            for bin_number in bins
        ]  # fmt: skip
        series.append(Series(words, values, points=False, steps=True))
    limits = []
    verification = metrics.verification if metrics is not None else None
    if verification is not None:
        rate, threshold = verification.equal_error_rate, verification.equal_error_threshold
        limits.append((threshold, f"equal error rate {rate:.1%} at {threshold:.3f}"))
        limits += [
            (point.threshold, f"false accepts {point.target:g}: true accepts "
             f"{point.true_accept_rate or 0:.1%} at {point.threshold:.3f}")
            for point in verification.operating_points
            if point.threshold is not None
        ]  # fmt: skip
    return chart(
        f"{name}: cosine similarity of pairs of the same and of different persons",
        series, across=f"cosine similarity, {name}", up="per cent of the pairs", limits=limits,
        from_zero=True, height=210,
    )  # fmt: skip

"""Verification metrics: equal error rate, true accepts at a bounded rate of false accepts, ROC.

A pair is accepted when its score, a cosine similarity, is at least the threshold. Thresholds are
scores that occurred; nothing is interpolated between them. These are the points of scikit-learn's
``roc_curve(same, scores, drop_intermediate=False)`` without its first, at infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.metrics.pairs import PairScores
from reid_edge.metrics.results import OperatingPoint, VerificationResult

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4)

FloatArray = npt.NDArray[np.floating]
ROC_POINTS = 1000


def evaluate_verification(
    scores: Tensor, same: Tensor, targets: Sequence[float] = TARGETS
) -> VerificationResult:
    """Measure scored pairs.

    The operating point for a target accepts as many pairs as it can: its threshold is the lowest
    score at which the false accept rate is at or below the target. A target below one over the
    number of impostor pairs cannot be distinguished from zero: its point has a reason and no rates.
    If the highest scores of all tie across more impostors than the target allows, nothing can be
    accepted: both rates are zero and there is no threshold.

    The equal error rate is taken at the threshold where false accept and false reject rate are
    closest (of two, the higher), as the mean of both.

    Args:
        scores: higher for pairs more alike, shape (pairs,).
        same: whether each pair is of one identity, bool, shape (pairs,).
        targets: false accept rates, each above 0 and at most 1.

    Raises:
        DataError: shapes differ, scores are not finite, a target is out of range, or there are no
            genuine or no impostor pairs.
    """
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DataError(
            f"scores have shape {tuple(scores.shape)} and labels {tuple(same.shape)}; "
            "expected one of each for every pair"
        )
    if same.dtype != torch.bool:
        raise DataError(f"labels of pairs have type {same.dtype}; expected bool")
    wide = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    values, genuine = wide.detach().cpu().numpy(), same.cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(values)} scores are not finite, the first at index {broken[0]}"
        )
    if genuine.all() or not genuine.any():
        kind = "impostor" if genuine.any() else "genuine"
        raise DataError(f"there are no {kind} pairs among the {len(genuine)} pairs")
    for target in targets:
        if not 0 < target <= 1:
            raise DataError(f"a false accept rate of {target} is asked for; it must be in (0, 1]")
    pairs = _SortedScores(np.sort(values[genuine]), np.sort(values[~genuine]))
    rate, threshold = pairs.equal_error()
    return VerificationResult(
        equal_error_rate=rate,
        equal_error_threshold=threshold,
        operating_points=tuple(pairs.operating_point(target) for target in targets),
        genuine_pairs=len(pairs.genuine),
        impostor_pairs=len(pairs.impostor),
    )


@dataclass(frozen=True)
class _SortedScores:
    """Scores of genuine and of impostor pairs, each ascending."""

    genuine: FloatArray
    impostor: FloatArray

    def operating_point(self, target: float) -> OperatingPoint:
        """Return the point that accepts the most pairs at a false accept rate up to ``target``."""
        impostors = len(self.impostor)
        threshold, accepted_genuine, accepted_impostor, reason = None, None, None, None
        if target < 1 / impostors:
            reason = f"below one in {impostors}, the number of impostor pairs"
        else:
            threshold = self.lowest(lambda score: self.false_accept_rate(score) <= target)
            if threshold is None:
                tied = impostors - _count_below(self.impostor, float(self.impostor[-1]))
                reason = f"the highest score ties across {tied} impostor pairs"
                accepted_genuine, accepted_impostor = 0.0, 0.0
            else:
                accepted_genuine = self.true_accept_rate(threshold)
                accepted_impostor = self.false_accept_rate(threshold)
        return OperatingPoint(
            target=target,
            true_accept_rate=accepted_genuine,
            false_accept_rate=accepted_impostor,
            threshold=threshold,
            reason=reason,
        )

    def equal_error(self) -> tuple[float, float]:
        """Return the equal error rate and the threshold that it is taken at."""

        def rates(score: float) -> tuple[float, float]:
            return self.false_accept_rate(score), 1 - self.true_accept_rate(score)

        # False accepts only fall and false rejects only rise with the threshold, so the closest
        # point is one of the two where they cross.
        above = self.lowest(lambda score: rates(score)[0] <= rates(score)[1])
        candidates = [score for score in (above, self.next_below(above)) if score is not None]
        threshold = min(candidates, key=lambda score: abs(rates(score)[0] - rates(score)[1]))
        return sum(rates(threshold)) / 2, threshold

    def false_accept_rate(self, threshold: float) -> float:
        accepted = len(self.impostor) - _count_below(self.impostor, threshold)
        return accepted / len(self.impostor)

    def true_accept_rate(self, threshold: float) -> float:
        accepted = len(self.genuine) - _count_below(self.genuine, threshold)
        return accepted / len(self.genuine)

    def lowest(self, accepted: Callable[[float], bool]) -> float | None:
        """Return the lowest score that is accepted as every higher score is, if there is one."""
        found = []
        for scores in (self.genuine, self.impostor):
            low, high = 0, len(scores)
            while low < high:
                middle = (low + high) // 2
                if accepted(float(scores[middle])):
                    high = middle
                else:
                    low = middle + 1
            if low < len(scores):
                found.append(float(scores[low]))
        return min(found, default=None)

    def next_below(self, threshold: float | None) -> float | None:
        """Return the highest score below the threshold, if there is one; None means infinity."""
        below = []
        for scores in (self.genuine, self.impostor):
            end = len(scores) if threshold is None else _count_below(scores, threshold)
            if end > 0:
                below.append(float(scores[end - 1]))
        return max(below, default=None)


def _count_below(ascending: FloatArray, threshold: float) -> int:
    # In the scores' own type: for another one NumPy would convert a copy of all the scores.
    return int(np.searchsorted(ascending, ascending.dtype.type(threshold)))


@dataclass(frozen=True)
class RocCurve:
    """True and false accepts by threshold; every point is exact.

    Attributes:
        thresholds: scores that occurred, descending, shape (points,).
        false_accept_rates: share of impostor pairs at or above each, ascending, shape (points,).
        true_accept_rates: share of genuine pairs at or above each, ascending, shape (points,).
    """

    thresholds: FloatArray
    false_accept_rates: FloatArray
    true_accept_rates: FloatArray


def roc_curve(pairs: PairScores, points: int = ROC_POINTS) -> RocCurve:
    """Choose points of the curve: dense where few impostors are accepted, all of it covered.

    A curve of ten million pairs has as many points. Half of the given number are spread evenly
    over the logarithm of the number of false accepts, half over the genuine pairs; the last
    accepts everything.

    Args:
        pairs: scored pairs, at least one of each kind.
        points: approximate number of points; fewer where scores tie.
    """
    genuine, impostor = (np.sort(each.numpy()) for each in (pairs.genuine, pairs.impostor))
    accepted = np.unique(np.geomspace(1, len(impostor), max(2, points // 2)).astype(np.int64))
    spread = np.unique(np.linspace(0, len(genuine) - 1, max(2, points // 2)).astype(np.int64))
    ends = [min(genuine[0], impostor[0])]
    chosen = np.unique(np.concatenate([impostor[-accepted], genuine[spread], ends]))[::-1]
    return RocCurve(
        chosen.astype(np.float64),
        1 - np.searchsorted(impostor, chosen) / len(impostor),
        1 - np.searchsorted(genuine, chosen) / len(genuine),
    )

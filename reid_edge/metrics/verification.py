"""Verification metrics: equal error rate, and true accepts at a bounded rate of false accepts.

A pair is accepted when its score, a cosine similarity, is at least the threshold. Thresholds are
scores that occurred; nothing is interpolated between them. These are the points of scikit-learn's
``roc_curve(same, scores, drop_intermediate=False)`` without its first, at infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.core.errors import DataError

TARGETS = (1e-1, 1e-2, 1e-3, 1e-4)

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class OperatingPoint:
    """What is accepted when false accepts are bounded; every rate is between 0 and 1.

    Attributes:
        target: the bound on the false accept rate.
        true_accept_rate: the share of genuine pairs accepted, or None if the target is refused.
        false_accept_rate: the share of impostor pairs accepted, at most the target, or None.
        threshold: the least score that is accepted, or None if there is none.
        reason: why there is no threshold, else None.
    """

    target: float
    true_accept_rate: float | None
    false_accept_rate: float | None
    threshold: float | None
    reason: str | None = None


@dataclass(frozen=True)
class VerificationResult:
    """How well scores tell genuine pairs from impostor pairs.

    Attributes:
        equal_error_rate: the mean of both error rates where they are closest, between 0 and 1.
        equal_error_threshold: the threshold there.
        operating_points: one for each target, in the order asked for.
        genuine_pairs: how many pairs of one identity were scored.
        impostor_pairs: how many pairs of two identities were scored.
    """

    equal_error_rate: float
    equal_error_threshold: float
    operating_points: tuple[OperatingPoint, ...]
    genuine_pairs: int
    impostor_pairs: int

    def to_dict(self) -> dict[str, object]:
        """Give the result as values that JSON has."""
        return asdict(self)


def evaluate_verification(
    scores: Tensor, same: Tensor, targets: Sequence[float] = TARGETS
) -> VerificationResult:
    """Measure scored pairs.

    The operating point for a target accepts as many pairs as it can: its threshold is the lowest
    score at which the false accept rate is at or below the target. A target below one over the
    number of impostor pairs cannot be told from zero; its point has no rates and says why. If
    the highest scores of all tie across more impostors than the target allows, nothing can be
    accepted: both rates are zero and there is no threshold.

    The equal error rate is taken at the threshold where false accept and false reject rate are
    closest (of two, the higher), as the mean of both.

    Args:
        scores: higher for pairs more alike, shape (pairs,).
        same: whether each pair is of one identity, bool, shape (pairs,).
        targets: false accept rates, each above 0 and at most 1.

    Raises:
        DataError: if shapes differ, scores are not finite, a target is out of range, or there
            are no genuine or no impostor pairs.
    """
    values, genuine_mask = _checked_scores(scores, same)
    for target in targets:
        if not 0 < target <= 1:
            raise DataError(f"a false accept rate of {target} is asked for; it must be in (0, 1]")
    pairs = _SortedScores(np.sort(values[genuine_mask]), np.sort(values[~genuine_mask]))
    rate, threshold = _equal_error(pairs)
    return VerificationResult(
        equal_error_rate=rate,
        equal_error_threshold=threshold,
        operating_points=tuple(_operating_point(pairs, target) for target in targets),
        genuine_pairs=len(pairs.genuine),
        impostor_pairs=len(pairs.impostor),
    )


@dataclass(frozen=True)
class _SortedScores:
    """Scores of genuine and of impostor pairs, each ascending."""

    genuine: FloatArray
    impostor: FloatArray

    def false_accepts(self, threshold: float) -> int:
        return len(self.impostor) - _count_below(self.impostor, threshold)

    def true_accepts(self, threshold: float) -> int:
        return len(self.genuine) - _count_below(self.genuine, threshold)

    def lowest(self, accepted: Callable[[float], bool]) -> float | None:
        """Find the lowest score that fulfils what every higher score fulfils too, if any does."""
        found = [_first(each, accepted) for each in (self.genuine, self.impostor)]
        return min((score for score in found if score is not None), default=None)

    def next_below(self, threshold: float | None) -> float | None:
        """Find the highest score below the threshold, if there is one; None is infinity."""
        ends = [
            len(each) if threshold is None else _count_below(each, threshold)
            for each in (self.genuine, self.impostor)
        ]
        below = [
            float(each[end - 1])
            for each, end in zip((self.genuine, self.impostor), ends, strict=True)
            if end > 0
        ]
        return max(below, default=None)


def _count_below(ascending: FloatArray, threshold: float) -> int:
    # In the scores' own type: for another one NumPy would convert a copy of all the scores.
    return int(np.searchsorted(ascending, ascending.dtype.type(threshold)))


def _first(ascending: FloatArray, accepted: Callable[[float], bool]) -> float | None:
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if accepted(float(ascending[middle])):
            high = middle
        else:
            low = middle + 1
    return float(ascending[low]) if low < len(ascending) else None


def _operating_point(pairs: _SortedScores, target: float) -> OperatingPoint:
    impostors = len(pairs.impostor)
    if target < 1 / impostors:
        return OperatingPoint(
            target, None, None, None, f"below one in {impostors}, the number of impostor pairs"
        )
    threshold = pairs.lowest(lambda score: pairs.false_accepts(score) / impostors <= target)
    if threshold is None:
        tied = pairs.false_accepts(float(pairs.impostor[-1]))
        return OperatingPoint(
            target, 0.0, 0.0, None, f"the highest score ties across {tied} impostor pairs"
        )
    return OperatingPoint(
        target,
        true_accept_rate=pairs.true_accepts(threshold) / len(pairs.genuine),
        false_accept_rate=pairs.false_accepts(threshold) / impostors,
        threshold=threshold,
    )


def _equal_error(pairs: _SortedScores) -> tuple[float, float]:
    def rates(score: float) -> tuple[float, float]:
        return (
            pairs.false_accepts(score) / len(pairs.impostor),
            1 - pairs.true_accepts(score) / len(pairs.genuine),
        )

    # False accepts only fall and false rejects only rise with the threshold, so the closest point
    # is one of the two where they cross.
    above = pairs.lowest(lambda score: rates(score)[0] <= rates(score)[1])
    candidates = [score for score in (above, pairs.next_below(above)) if score is not None]
    threshold = min(candidates, key=lambda score: abs(rates(score)[0] - rates(score)[1]))
    return sum(rates(threshold)) / 2, threshold


def _checked_scores(scores: Tensor, same: Tensor) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DataError(
            f"scores have shape {tuple(scores.shape)} and labels {tuple(same.shape)}; "
            "expected one of each for every pair"
        )
    if same.dtype != torch.bool:
        raise DataError(f"labels of pairs have type {same.dtype}; expected bool")
    wide = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    values: FloatArray = wide.detach().cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(values)} scores are not finite, the first at index {broken[0]}"
        )
    mask: npt.NDArray[np.bool_] = same.cpu().numpy()
    genuine = int(mask.sum())
    if genuine in (0, len(mask)):
        kind = "genuine" if genuine == 0 else "impostor"
        raise DataError(f"there are no {kind} pairs among the {len(mask)} pairs")
    return values, mask

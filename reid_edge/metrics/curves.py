"""Curves as files: receiver operating characteristic and cumulative matching, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid_edge.core.io import write_bytes
from reid_edge.metrics.pairs import PairScores

FloatArray = npt.NDArray[np.float64]
ROC_POINTS = 1000


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
        points: how many there are about; fewer where scores tie.
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


def write_roc(path: Path, curve: RocCurve) -> None:
    """Write a curve as CSV: threshold, false and true accept rate; whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    rows = zip(
        curve.thresholds.tolist(),
        curve.false_accept_rates.tolist(),
        curve.true_accept_rates.tolist(),
        strict=True,
    )
    _write(path, ("threshold", "false_accept_rate", "true_accept_rate"), rows)


def write_cmc(path: Path, curves: Mapping[str, Mapping[int, float]]) -> None:
    """Write cumulative matching as CSV, a column for each distance; whole or not at all.

    Args:
        path: of the file.
        curves: share of queries with a match by rank, of the same ranks, by distance.

    Raises:
        OSError: it cannot be written.
    """
    ranks = sorted(next(iter(curves.values())))
    rows = ((rank, *(curve[rank] for curve in curves.values())) for rank in ranks)
    _write(path, ("rank", *curves), rows)


def _write(path: Path, heading: Iterable[str], rows: Iterable[Iterable[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())

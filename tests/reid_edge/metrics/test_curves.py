"""Curves pass through the points that the metrics give."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_edge.inference.evaluation import write_cmc, write_roc
from reid_edge.metrics.pairs import PairScores
from reid_edge.metrics.verification import evaluate_verification, roc_curve


def pairs(genuine: int, impostor: int, seed: int = 0) -> PairScores:
    generator = torch.Generator().manual_seed(seed)
    return PairScores(
        torch.randn(genuine, generator=generator) + 1.5,
        torch.randn(impostor, generator=generator),
        impostor,
    )


def test_every_point_is_exact_and_ordered() -> None:
    scored = pairs(300, 20_000)
    curve = roc_curve(scored, points=200)
    assert 100 < len(curve.thresholds) <= 201
    for threshold, false, true in zip(
        curve.thresholds, curve.false_accept_rates, curve.true_accept_rates, strict=True
    ):
        assert false == pytest.approx(float((scored.impostor >= threshold).double().mean()))
        assert true == pytest.approx(float((scored.genuine >= threshold).double().mean()))
    assert (np.diff(curve.thresholds) < 0).all()
    assert (np.diff(curve.false_accept_rates) >= 0).all()
    assert (curve.false_accept_rates[-1], curve.true_accept_rates[-1]) == (1, 1)


def test_all_points_where_there_are_few() -> None:
    scored = pairs(20, 30)
    curve = roc_curve(scored)
    result = evaluate_verification(scored.scores, scored.same, (0.1,))
    assert result.operating_points[0].threshold in curve.thresholds
    assert len(curve.thresholds) == 50


def test_ties() -> None:
    curve = roc_curve(PairScores(torch.ones(5), torch.ones(7), 7))
    assert [each.tolist() for each in (curve.thresholds, curve.true_accept_rates)] == [[1], [1]]


def test_files(tmp_path: Path) -> None:
    write_roc(tmp_path / "new" / "roc.csv", roc_curve(pairs(20, 30)))
    with (tmp_path / "new" / "roc.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["threshold", "false_accept_rate", "true_accept_rate"]
    assert float(rows[-1]["false_accept_rate"]) == 1
    write_cmc(tmp_path / "cmc.csv", {"cosine": {1: 0.5, 2: 1.0}, "euclidean": {1: 0.25, 2: 0.75}})
    assert (tmp_path / "cmc.csv").read_text() == "rank,cosine,euclidean\n1,0.5,0.25\n2,1.0,0.75\n"

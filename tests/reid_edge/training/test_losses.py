"""Losses equal naive loops on a tiny case."""

from math import exp, log, log1p

import pytest
import torch
from torch import Tensor

from reid_edge.training.losses import SupervisedLoss
from reid_edge.training.settings import LossSettings

CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])


def naive_cross_entropy(logits: Tensor, classes: Tensor, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits, classes, strict=True):
        log_probability = row - row.exp().sum().log()
        for index, value in enumerate(log_probability):
            wanted = smoothing / len(row) + (1 - smoothing if index == label else 0)
            total -= wanted * float(value)
    return total / len(logits)


def naive_triplet(embeddings: Tensor, classes: Tensor, margin: float, unit: bool) -> float:
    if unit:
        embeddings = embeddings / embeddings.norm(dim=1, keepdim=True)
    losses = []
    for i, anchor in enumerate(embeddings):
        distances = [float((anchor - other).norm()) for other in embeddings]
        positive = max(d for j, d in enumerate(distances) if classes[j] == classes[i] and j != i)
        negative = min(d for j, d in enumerate(distances) if classes[j] != classes[i])
        losses.append(max(0.0, positive - negative + margin))
    # The library averages over the triplets that are not solved yet.
    unsolved = [loss for loss in losses if loss > 0]
    return sum(unsolved) / max(1, len(unsolved))


def naive_circle(embeddings: Tensor, classes: Tensor, margin: float, gamma: float) -> float:
    """Equation 6 of the paper with its equations 5 and 8, once for every anchor."""
    losses = []
    for i, anchor in enumerate(embeddings):
        positives, negatives = 0.0, 0.0
        for j, other in enumerate(embeddings):
            cosine = float(torch.dot(anchor, other) / (anchor.norm() * other.norm()))
            if classes[j] != classes[i]:
                negatives += exp(gamma * max(0.0, cosine + margin) * (cosine - margin))
            elif j != i:
                positives += exp(-gamma * max(0.0, 1 + margin - cosine) * (cosine - (1 - margin)))
        exponent = log(positives) + log(negatives)  # their product would overflow
        losses.append(max(0.0, exponent) + log1p(exp(-abs(exponent))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("unit", [False, True])
def test_terms_equal_naive_loops(unit: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    embeddings = torch.randn(6, 4, generator=generator)
    settings = LossSettings(cross_entropy=0.7, triplet=2.0, triplet_normalised=unit)
    terms = SupervisedLoss(settings)(logits, embeddings, CLASSES)
    cross_entropy = 0.7 * naive_cross_entropy(logits, CLASSES, 0.1)
    triplet = 2.0 * naive_triplet(embeddings, CLASSES, 0.3, unit)
    assert float(terms["cross_entropy"]) == pytest.approx(cross_entropy, rel=1e-5)
    assert float(terms["triplet"]) == pytest.approx(triplet, rel=1e-5)


@pytest.mark.parametrize(("margin", "gamma"), [(0.25, 128.0), (0.25, 256.0), (0.4, 8.0)])
def test_the_circle_loss_equals_naive_loops(margin: float, gamma: float) -> None:
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    settings = LossSettings(
        cross_entropy=0, triplet=0, circle=0.5, circle_margin=margin, circle_gamma=gamma
    )
    terms = SupervisedLoss(settings)(torch.zeros(6, 3), embeddings, CLASSES)
    expected = 0.5 * naive_circle(embeddings, CLASSES, margin, gamma)
    assert set(terms) == {"circle"}
    assert float(terms["circle"]) == pytest.approx(expected, rel=1e-4)


def test_the_weights_are_summed_up() -> None:
    assert LossSettings(cross_entropy=0, triplet=0).total_weight == 0
    assert LossSettings(cross_entropy=1, triplet=0.5, circle=0.25).total_weight == 1.75


def test_a_weight_of_zero_leaves_a_term_out() -> None:
    settings = LossSettings(cross_entropy=0, triplet=1)
    assert set(SupervisedLoss(settings)(torch.randn(6, 3), torch.randn(6, 4), CLASSES)) == {
        "triplet"
    }


@pytest.mark.parametrize("term", ["triplet", "circle"])
def test_half_precision_embeddings_are_compared_in_full(term: str) -> None:
    embeddings = 300 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    loss = SupervisedLoss(LossSettings(cross_entropy=0, triplet=1, circle=1))
    half = embeddings.bfloat16()
    assert torch.equal(
        loss(torch.zeros(6, 3), half, CLASSES)[term],
        loss(torch.zeros(6, 3), half.float(), CLASSES)[term],
    )

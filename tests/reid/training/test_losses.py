"""Losses equal naive loops on a tiny case."""

import pytest
import torch
from torch import Tensor

from reid.training.losses import SupervisedLoss
from reid.training.settings import LossSettings

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


def test_a_weight_of_zero_leaves_a_term_out() -> None:
    settings = LossSettings(cross_entropy=0, triplet=1)
    assert set(SupervisedLoss(settings)(torch.randn(6, 3), torch.randn(6, 4), CLASSES)) == {
        "triplet"
    }


def test_half_precision_embeddings_are_compared_in_full() -> None:
    embeddings = 300 * torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    loss = SupervisedLoss(LossSettings(cross_entropy=0))
    half = embeddings.bfloat16()
    assert torch.equal(
        loss(torch.zeros(6, 3), half, CLASSES)["triplet"],
        loss(torch.zeros(6, 3), half.float(), CLASSES)["triplet"],
    )

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from quantize.parity import Parity, ParityLimits, batch_difference, compare, spread, violations
from reid_edge.core.errors import QuantizeError

LIMITS = ParityLimits(mean_cosine=0.98, lowest_cosine=0.9)


@pytest.fixture
def model() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 8, generator=generator), torch.randn(30, 8, generator=generator)


def test_the_same_embeddings_at_other_lengths_agree(model: tuple[Tensor, Tensor]) -> None:
    scaled = tuple(each * torch.rand(len(each), 1).add(0.1) for each in model)
    parity = compare(model, (scaled[0], scaled[1]), batch_difference=0.0)
    assert parity.images == 35
    assert parity.mean_cosine == pytest.approx(1)
    assert parity.lowest_cosine == pytest.approx(1)
    assert (parity.same_nearest, parity.nearest_overlap) == (1, 1)
    assert violations(parity, LIMITS) == []


def test_against_a_naive_computation(model: tuple[Tensor, Tensor]) -> None:
    generator = torch.Generator().manual_seed(1)
    file = tuple(each + 0.5 * torch.randn(each.shape, generator=generator) for each in model)
    parity = compare(model, (file[0], file[1]), batch_difference=0.0)

    def unit(vector: np.ndarray) -> np.ndarray:
        return np.asarray(vector / np.sqrt((vector**2).sum()))

    exact, own = (
        [[unit(row) for row in part.double().numpy()] for part in both] for both in (model, file)
    )
    cosines = [float(a @ b) for i in (0, 1) for a, b in zip(exact[i], own[i], strict=True)]
    assert parity.mean_cosine == pytest.approx(np.mean(cosines))
    assert parity.lowest_cosine == pytest.approx(min(cosines))
    same, common = 0, 0
    for a, b in zip(exact[0], own[0], strict=True):
        first = sorted(range(30), key=lambda i, q=a: -float(q @ exact[1][i]))[:10]  # type: ignore[misc]
        second = sorted(range(30), key=lambda i, q=b: -float(q @ own[1][i]))[:10]  # type: ignore[misc]
        same += first[0] == second[0]
        common += len(set(first) & set(second))
    assert parity.same_nearest == pytest.approx(same / 5)
    assert parity.nearest_overlap == pytest.approx(common / 50)
    assert 0 < parity.nearest_overlap < 1
    rows = np.array(own[0] + own[1])
    assert parity.spread == pytest.approx(rows.var(0).sum())


def test_spread_is_between_one_point_and_all_around() -> None:
    assert spread(torch.ones(4, 3)) == pytest.approx(0)
    assert spread(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(1)


def test_a_collapsed_embedding_is_named(model: tuple[Tensor, Tensor]) -> None:
    constant = tuple(torch.ones_like(each) + 1e-3 * each for each in model)
    parity = compare(model, (constant[0], constant[1]), batch_difference=0.0)
    assert violations(parity, LIMITS)[0].startswith("its embeddings collapse: they vary by ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean_cosine": 0.97}, "mean cosine to the model 0.9700, wanted 0.98"),
        ({"lowest_cosine": 0.5}, "lowest cosine to the model 0.5000, wanted 0.9"),
        ({"batch_difference": 0.01}, "embeddings depend on the batch by 1.0e-02, allowed 0.0001"),
        ({"mean_cosine": float("nan")}, "mean cosine to the model nan, wanted 0.98"),
    ],
)
def test_every_limit_is_kept_to(change: dict[str, float], words: str) -> None:
    fine = Parity(10, 0.99, 0.95, 1.0, 1.0, 0.5, 0.5, 0.0)
    assert violations(fine, LIMITS) == []
    assert violations(replace(fine, **change), LIMITS) == [words]  # type: ignore[arg-type]


def test_batches_of_several_sizes() -> None:
    images = torch.rand(9, 3, 2, 2)
    sizes: list[int] = []

    def embed(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return batch.flatten(1) * len(batch)

    assert batch_difference(embed, images) < 1e-6
    assert sizes == [1, 2, 7]
    assert batch_difference(lambda batch: batch.flatten(1).cumsum(0), images) < 1e-6
    assert batch_difference(lambda batch: batch.flatten(1).cumsum(0).flip(0), images) > 1e-3


def test_other_shapes_and_numbers_are_refused(model: tuple[Tensor, Tensor]) -> None:
    query, gallery = model
    with pytest.raises(QuantizeError, match=r"shape \(5, 4\), the model's \(5, 8\)"):
        compare(model, (query[:, :4], gallery), batch_difference=0.0)
    with pytest.raises(QuantizeError, match="not finite"):
        compare(model, (query / 0, gallery), batch_difference=0.0)

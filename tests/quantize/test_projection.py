"""Smaller embeddings: what a projection keeps, and where a model has it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.projection import apply_projection, fit_projection, with_projection

IMAGES = torch.randn(6, 3, 8, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def embeddings() -> Tensor:
    """64 embeddings of 20 dimensions that fill 8 of them, and a little noise."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(8, 20, generator=generator)
    noise = 1e-4 * torch.randn(64, 20, generator=generator)
    return (torch.randn(64, 8, generator=generator) + 0.5) @ basis + noise


def test_directions_that_embeddings_fill_are_enough(embeddings: Tensor) -> None:
    exact, found = (apply_projection(embeddings, p) for p in (None, fit_projection(embeddings, 8)))
    assert found.shape == (64, 8)
    assert torch.allclose(found @ found.T, exact @ exact.T, atol=1e-5)
    fewer = apply_projection(embeddings, fit_projection(embeddings, 4))
    assert (fewer @ fewer.T - exact @ exact.T).abs().max() > 0.05


def test_whitening_gives_all_directions_the_same_variance(embeddings: Tensor) -> None:
    projection = fit_projection(embeddings, 8, whiten=True)
    assert projection.bias is not None
    unit = F.normalize(embeddings)
    projected = unit @ torch.from_numpy(projection.weight).T + torch.from_numpy(projection.bias)
    assert torch.allclose(projected.mean(0), torch.zeros(8), atol=1e-4)
    assert torch.allclose(projected.T @ projected / 64, torch.eye(8), atol=1e-3)


def test_the_same_embeddings_give_the_same_bits(embeddings: Tensor) -> None:
    first, second = (fit_projection(embeddings, 8) for _ in range(2))
    assert (first.weight == second.weight).all()
    assert (abs(first.weight).max(1) == first.weight.max(1)).all()


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("ends_linear", [False, True])
def test_the_last_linear_layer_takes_it_up_where_there_is_one(
    embeddings: Tensor, ends_linear: bool, whiten: bool
) -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 20))
    if not ends_linear:
        head.append(nn.ReLU())
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    ).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    projection = fit_projection(embeddings, 8, whiten)
    with torch.inference_mode():
        smaller = with_projection(model, projection)
        found = F.normalize(smaller(IMAGES).double())
        expected = apply_projection(model(IMAGES), projection)
    assert torch.allclose(found, expected, atol=1e-5)
    layers = sum(isinstance(module, nn.Linear) for module in smaller.modules())
    assert layers == (2 if ends_linear and not whiten else 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

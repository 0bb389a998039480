"""Differences between embeddings, against a naive computation."""

import math

import pytest
import torch
from torch import Tensor, nn

from quantize.agreement import Reference, compare
from reid_edge.core.errors import QuantizeError


def test_compare_is_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(5, 8, generator=generator)
    embeddings = reference + 0.1 * torch.randn(5, 8, generator=generator)
    cosine_errors, relative_errors = [], []
    for a, b in zip(embeddings.tolist(), reference.tolist(), strict=True):
        product = sum(x * y for x, y in zip(a, b, strict=True))
        lengths = math.hypot(*a), math.hypot(*b)
        cosine_errors.append(1 - product / (lengths[0] * lengths[1]))
        difference = math.hypot(*(x - y for x, y in zip(a, b, strict=True)))
        relative_errors.append(difference / lengths[1])
    found = compare(embeddings, reference)
    assert found.images == 5
    assert found.mean_cosine_error == pytest.approx(sum(cosine_errors) / 5, rel=1e-4)
    assert found.largest_cosine_error == pytest.approx(max(cosine_errors), rel=1e-4)
    assert found.mean_relative_error == pytest.approx(sum(relative_errors) / 5, rel=1e-4)


def test_equal_embeddings_have_no_error() -> None:
    embeddings = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    found = compare(embeddings, embeddings)
    assert found.mean_relative_error == 0
    assert found.mean_cosine_error == pytest.approx(0, abs=1e-12)


def test_the_float_model_is_run_in_evaluation_mode_and_left_in_its_own(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).train()
    model[1].eval()  # frozen
    reference = Reference(model, images.split(5))
    assert [module.training for module in model] == [True, False, True]
    with pytest.raises(RuntimeError):
        Reference(model, [images[:, :2]])
    assert model.training
    assert torch.equal(reference.embeddings, model.eval()(images).detach())
    assert reference.agreement(model, "qnnpack").mean_relative_error == 0


def test_without_images_there_is_nothing_to_compare() -> None:
    with pytest.raises(QuantizeError, match="no images to compare int8 embeddings with float"):
        Reference(nn.Flatten(), [])

"""Embeddings come in order, and broken ones are noticed."""

import pytest
import torch

from reid_edge.core.errors import ModelError
from reid_edge.data.loaders import stack_images
from reid_edge.data.schema import ReidData
from reid_edge.inference.features import embed_batches, embed_images, embed_on
from reid_edge.models import build_model


def test_order_and_batches_do_not_matter(tiny_data: ReidData) -> None:
    torch.manual_seed(0)
    model = build_model("osnet_x0_25").train()
    embeddings = embed_images(model, tiny_data.gallery, height=64, width=32, batch_size=5)
    assert not model.training
    with torch.no_grad():
        expected = model(stack_images(tiny_data.gallery, height=64, width=32))
    assert torch.allclose(embeddings, expected, atol=1e-5)


def test_any_function_will_do() -> None:
    assert (
        embed_batches(lambda x: x.mean((2, 3)), [torch.ones(2, 3, 4, 4)]).tolist()
        == [[1.0] * 3] * 2
    )


def test_a_module_is_given_the_layout_it_is_quick_with() -> None:
    seen: list[bool] = []
    model = build_model("osnet_x0_25").train()
    model.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        embeddings = embed_on(model, "cpu")(images)
        assert torch.allclose(embeddings, model(images), atol=1e-5)
    assert not model.training
    assert seen == [True, False]


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    batch = torch.ones(3, 3, 4, 4)
    batch[1] = float("nan")
    with pytest.raises(ModelError, match="1 of 3 embeddings are not finite"):
        embed_batches(lambda x: x.mean((2, 3)), [batch])

"""Embeddings come in order, and broken ones are noticed."""

import threading
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from reid_edge.core.devices import Precision
from reid_edge.core.errors import DataError, ModelError
from reid_edge.data.loaders import evaluation_loader, stack_images
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import EmbeddingSpace, load_batches, unit_vectors
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
        embeddings = embed_on(model, "cpu")(images.numpy())
        assert np.allclose(embeddings, model(images), atol=1e-5)
    assert not model.training
    assert seen == [True, False]


def test_a_module_computes_in_the_precision_that_it_is_told() -> None:
    seen: list[torch.dtype] = []
    model = build_model("osnet_x0_25").eval()
    model.conv1.conv.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    images = torch.rand(2, 3, 64, 32)
    plain, half = (
        embed_on(model, precision=precision)(images.numpy())
        for precision in get_args(Precision)[:2]
    )
    assert seen == [torch.float32, torch.bfloat16]
    assert half.dtype == np.float32
    assert 0 < np.abs(half - plain).max() < 0.05 * np.abs(plain).max()


def test_embeddings_that_are_not_finite_are_an_error() -> None:
    batch = torch.ones(3, 3, 4, 4)
    batch[1] = float("nan")
    with pytest.raises(ModelError, match="1 of 3 embeddings are not finite"):
        embed_batches(lambda x: x.mean((2, 3)), [batch])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_threads_give_the_same_batches_in_order(tiny_data: ReidData, workers: int) -> None:
    paths = [image.path for image in tiny_data.gallery]
    space = EmbeddingSpace("", (64, 32))
    expected = evaluation_loader(tiny_data.gallery, height=64, width=32, batch_size=4, workers=0)
    batches = list(load_batches(space, paths, 4, workers))
    assert [len(batch) for batch in batches] == [len(batch) for batch in expected]
    for batch, other in zip(batches, expected, strict=True):
        assert batch.flags.c_contiguous
        assert np.array_equal(batch, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_image_that_cannot_be_read_is_named(
    tiny_data: ReidData, tmp_path: Path, workers: int
) -> None:
    paths = [image.path for image in tiny_data.gallery]
    paths[2:2] = [tmp_path / "first.jpg", tmp_path / "second.jpg"]
    with pytest.raises(DataError, match=r"first\.jpg: no such image"):
        list(load_batches(EmbeddingSpace("", (64, 32)), paths, 4, workers))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_threads_end_when_batches_are_not_wanted_any_more(tiny_data: ReidData) -> None:
    paths = [image.path for image in tiny_data.gallery] * 20
    batches = load_batches(EmbeddingSpace("", (64, 32)), paths, 2, 2)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_unit_vectors() -> None:
    embeddings = np.array([[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [1e30, 1e30]], np.float32)
    expected = np.array([[0.6, 0.8], [0, 0], [1, 0], [0.5**0.5, 0.5**0.5]], np.float32)
    assert np.array_equal(unit_vectors(embeddings), expected)

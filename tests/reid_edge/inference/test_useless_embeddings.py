"""A model that gives nothing to compare persons by gets no decision, wherever it is used."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_edge.core.errors import ModelError
from reid_edge.core.model_file import Images
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import ImageEmbedder, embed_files, load_embedder
from reid_edge.inference.enrolment import enrol
from reid_edge.inference.evaluation import evaluate, evaluate_embeddings
from reid_edge.inference.features import embed_batches, embed_images
from reid_edge.inference.recognition import verify

ZERO = "embeddings are zero in all dimensions, which are similar to nothing"
SAME = "small.pt: gives the same embedding for every image, so it can tell no persons apart"


def zeros(images: Images) -> np.ndarray:
    return np.zeros((len(images), 4), np.float32)


def same(images: Images) -> np.ndarray:
    return np.tile(np.array([1, 2, 3, 4], np.float32), (len(images), 1))


def nearly_same(images: Images) -> np.ndarray:
    """What a network gives whose training collapsed: one vector, and noise of rounding."""
    return same(images) + 1e-4 * images.mean((1, 2, 3))[:, None]


def of_any_length(images: Images) -> np.ndarray:
    """One direction, whatever the length."""
    return same(images) * (1 + np.abs(images).mean((1, 2, 3))[:, None])


@pytest.fixture
def embedder_of(checkpoint_file: Path) -> Callable[[object], ImageEmbedder]:
    embedder = load_embedder(checkpoint_file)
    return lambda embed: replace(embedder, embed=embed)


@pytest.mark.parametrize(
    ("embed", "message"),
    [(zeros, ZERO), (same, SAME), (nearly_same, SAME), (of_any_length, SAME)],
)
def test_commands(
    embedder_of: Callable[[object], ImageEmbedder],
    tiny_data: ReidData,
    tmp_path: Path,
    embed: Callable[[Images], np.ndarray],
    message: str,
) -> None:
    embedder = embedder_of(embed)
    first, second = tiny_data.query[0].path, tiny_data.gallery[0].path
    with pytest.raises(ModelError, match=message):
        verify(embedder, first, second, 0.5)
    with pytest.raises(ModelError, match=message):
        verify(embedder, first, first, 0.5)
    with pytest.raises(ModelError, match=message):
        embed_files(embedder, [first, second, first])
    with pytest.raises(ModelError, match=message):
        evaluate(embedder, tiny_data)
    (tmp_path / "people").mkdir()
    for count in (1, 2):
        Image.open(first).save(tmp_path / "people" / f"{count}.png")
        Image.open(second).save(tmp_path / "people" / "3.png") if count == 2 else None
        with pytest.raises(ModelError, match=message):
            enrol(embedder, tmp_path / "people", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_embeddings_of_the_pipeline(tiny_data: ReidData) -> None:
    with pytest.raises(ModelError, match=f"2 of 2 {ZERO}"):
        embed_batches(lambda x: torch.zeros(len(x), 4), [torch.ones(2, 3, 4, 4)])
    with pytest.raises(ModelError, match=ZERO):
        embed_images(lambda x: torch.zeros(len(x), 4), tiny_data.query, height=8, width=4)
    query, gallery = (torch.ones(len(split), 4) for split in (tiny_data.query, tiny_data.gallery))
    with pytest.raises(ModelError, match="gives the same embedding for all 5 persons: the traini"):
        evaluate_embeddings(query, gallery * 2, tiny_data)
    gallery[3] = 0
    with pytest.raises(ModelError, match=f"1 of {len(gallery)} {ZERO}"):
        evaluate_embeddings(query, gallery, tiny_data)


def test_one_zero_among_many(
    embedder_of: Callable[[object], ImageEmbedder], tiny_data: ReidData
) -> None:
    def embed(images: Images) -> np.ndarray:
        embeddings = images.mean((2, 3))
        embeddings[1] = 0
        return embeddings

    with pytest.raises(ModelError, match=f"1 of 3 {ZERO}"):
        embed_files(embedder_of(embed), [image.path for image in tiny_data.query[:3]])


def test_images_that_are_alike_are_no_collapse(
    checkpoint_file: Path, tiny_data: ReidData, tmp_path: Path
) -> None:
    """Copies, another format, one pixel changed, and flat images; the weights are random."""
    embedder = load_embedder(checkpoint_file)
    image = Image.open(tiny_data.query[0].path)
    for suffix in ("png", "bmp"):
        image.save(tmp_path / f"copy.{suffix}")
    image.putpixel((0, 0), (0, 0, 0))
    image.save(tmp_path / "pixel.png")
    alike = sorted(tmp_path.iterdir())
    assert embed_files(embedder, alike).shape[0] == 3
    assert verify(embedder, alike[0], alike[1], 0.999).same_person
    flat = []
    for shade in (0, 118, 119, 255):
        flat.append(tmp_path / f"{shade}.png")
        Image.new("RGB", (32, 64), (shade, shade, shade)).save(flat[-1])
        assert verify(embedder, flat[-1], flat[-1], 0.999).same_person
    assert embed_files(embedder, flat).shape[0] == 4

"""The share of neighbours that stay, against a naive count, and models that must have another."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from reid_edge.adaptation.site_views import embed_changed
from reid_edge.adaptation.stability import neighbour_stability
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.features import embed_images

SIZE = {"height": 16, "width": 8}


class Flat(nn.Module):
    """The pixels of an image, as they are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


class Chance(nn.Module):
    """Another embedding for every image, whatever is in it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.randn(len(images), 16)


@pytest.fixture
def data(tmp_path: Path) -> ReidData:
    generator = np.random.default_rng(0)
    images = []
    for number in range(40):
        pixels = np.full((16, 8, 3), generator.integers(0, 256, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        images.append(Sample(path=path, person=0, camera=0))
    return ReidData(root=tmp_path, train=(), query=tuple(images), gallery=(), labels="none")


def test_as_counted_one_by_one(data: ReidData) -> None:
    kept = 0
    plain = embed_images(Flat(), data.query, **SIZE)
    changed = embed_changed(Flat(), data.query, **SIZE, seed=3)
    for place in range(len(plain)):
        nearest = []
        for all_of_them in (plain, changed):
            cosines = torch.cosine_similarity(all_of_them, all_of_them[place : place + 1])
            cosines[place] = -2
            nearest.append(set(cosines.argsort(descending=True)[:10].tolist()))
        kept += len(nearest[0] & nearest[1])
    told: list[tuple[int, int]] = []

    def work(title: str, *_: object, **__: object) -> object:
        return lambda done, total: told.append((done, total))

    (found,) = neighbour_stability([Flat()], data, **SIZE, seed=3, work=work)  # type: ignore[arg-type]
    assert found == pytest.approx(kept / (10 * len(plain)))
    assert told[-1] == (80, 80)


def test_a_model_of_chance_keeps_none(data: ReidData) -> None:
    torch.manual_seed(0)
    steady, by_chance = neighbour_stability([Flat(), Chance()], data, **SIZE, seed=3)
    assert steady > 0.5
    assert by_chance == pytest.approx(10 / 39, abs=0.06)

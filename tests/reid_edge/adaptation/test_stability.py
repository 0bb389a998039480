"""The share of neighbours that stay, against a naive count, and models that must have another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from reid_edge.adaptation import stability
from reid_edge.adaptation.site_views import embed_changed
from reid_edge.adaptation.stability import compare_stability
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.features import embed_images

SIZE = {"height": 16, "width": 8}


class Flat(nn.Module):
    """The pixels of an image, as they are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)


class Rows(nn.Module):
    """Another look at the pixels: the mean of each row, one colour less."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :2].mean(3).flatten(1)


def by_chance(images: torch.Tensor) -> torch.Tensor:
    """Another embedding for every image, whatever is in it."""
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
    kept = common = 0
    plain = embed_images(Flat(), data.query, **SIZE)
    changed = embed_changed(Flat(), data.query, **SIZE, seed=3)
    other = embed_images(Rows(), data.query, **SIZE)
    for place in range(len(plain)):
        nearest = []
        for all_of_them in (plain, changed, other):
            cosines = torch.cosine_similarity(all_of_them, all_of_them[place : place + 1])
            cosines[place] = -2
            nearest.append(set(cosines.argsort(descending=True)[:10].tolist()))
        kept += len(nearest[0] & nearest[1])
        common += len(nearest[0] & nearest[2])
    told: list[tuple[int, int]] = []

    def work(title: str, *_: object, **__: object) -> object:
        return lambda done, total: told.append((done, total))

    found = compare_stability(Flat(), Rows(), data, **SIZE, seed=3, work=work)  # type: ignore[arg-type]
    assert found.teacher == pytest.approx(kept / (10 * len(plain)))
    assert found.overlap == pytest.approx(common / (10 * len(plain)))
    assert found.images == 40
    assert told[-1] == (160, 160)


def test_a_model_of_chance_keeps_none(data: ReidData) -> None:
    torch.manual_seed(0)
    found = compare_stability(Flat(), by_chance, data, **SIZE, seed=3)
    assert found.teacher > 0.5
    assert found.chance == pytest.approx(10 / 39)
    for share in (found.student, found.overlap):
        assert share == pytest.approx(found.chance, abs=0.06)


def test_of_more_images_some_are_looked_at_evenly(
    data: ReidData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stability, "MOST_IMAGES", 16)
    few = replace(data, query=tuple(data.query[place * 40 // 16] for place in range(16)))
    expected = compare_stability(Flat(), Rows(), few, **SIZE, seed=3)
    assert compare_stability(Flat(), Rows(), data, **SIZE, seed=3) == expected
    assert expected.images == 16

"""Which adapted models are kept: embeddings that are better, spoiled, or tighter by chance."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_edge.adaptation.judgement import directions, judge, stable_share
from reid_edge.adaptation.site import Site

PERSONS, IMAGES, DIMENSIONS = 30, 8, 48


def embeddings(noise: float, *, light: float = 0.6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Persons with images on two cameras, and changed copies; the noise is the model's."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(PERSONS, DIMENSIONS, generator=torch.Generator().manual_seed(99))
    looks = centres.repeat_interleave(IMAGES, dim=0)
    own = torch.randn(looks.shape, generator=generator)
    camera = torch.randn(2, DIMENSIONS, generator=generator).repeat(len(looks) // 2, 1)
    plain = looks + noise * own + 0.3 * camera
    change = torch.randn(looks.shape, generator=generator)
    return plain, plain + light * noise * change


@pytest.fixture
def site() -> Site:
    return Site(cameras=np.tile([1, 2], PERSONS * IMAGES // 2))


BEFORE = embeddings(1.3)


def test_a_model_that_tells_persons_apart_better_is_kept(site: Site) -> None:
    found = judge(BEFORE, embeddings(1.0), site)
    assert found.better
    assert found.reason.startswith("better on images set apart: how far the eight nearest images ")
    contrast, stability, *limits = found.figures
    assert contrast.decides
    assert stability.decides
    assert contrast.after > contrast.before
    assert not any(figure.decides for figure in limits)


def test_the_same_model_and_a_worse_one_are_not_kept(site: Site) -> None:
    for after in (BEFORE, embeddings(1.6)):
        found = judge(BEFORE, after, site)
        assert not found.better
        assert found.reason.startswith("not better: how far")


def test_a_collapsed_model_is_not_kept(site: Site) -> None:
    # Two directions are left, and images are tight around them.
    generator = torch.Generator().manual_seed(3)
    poles = torch.randn(2, DIMENSIONS, generator=generator)[torch.arange(len(BEFORE[0])) % 2]
    after = tuple(poles + 0.01 * one for one in BEFORE)
    found = judge(BEFORE, (after[0], after[1]), site)
    assert not found.better
    assert "the adaptation has spoiled the model: number of directions" in found.reason


def test_clusters_of_chance_are_not_kept(site: Site) -> None:
    # Tight, stable, many directions: but its neighbours were no neighbours before.
    generator = torch.Generator().manual_seed(5)
    order = torch.randperm(len(BEFORE[0]), generator=generator)
    sharp = embeddings(0.5)
    found = judge(BEFORE, (sharp[0][order], sharp[1][order]), site)
    assert not found.better
    assert "in the eyes of the model before" in found.reason


def test_a_model_that_loses_tracks_is_not_kept() -> None:
    tracks = np.repeat(np.arange(PERSONS * IMAGES // 4), 4)
    before, after = embeddings(0.8), embeddings(0.6)
    known = Site(tracks=tracks)
    kept = judge(before, after, known)
    assert "mAP of the second half of a track, searched by the first" in [
        figure.name for figure in kept.figures
    ]
    mixed = after[0].clone()
    mixed[::4] = after[0].roll(IMAGES, 0)[::4]
    found = judge(before, (mixed, after[1]), known)
    assert not found.better


def test_embeddings_that_are_not_finite_numbers_apart_are_not_kept(site: Site) -> None:
    same = torch.ones_like(BEFORE[0])
    found = judge(BEFORE, (same, same), site)
    assert not found.better


def test_figures_are_those_of_small_examples() -> None:
    assert directions(torch.eye(5)) == pytest.approx(4)
    assert directions(torch.tensor([[1.0, 0], [0, 1]] * 4)) == pytest.approx(1)
    points = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1], [0.2, 1.0]])
    assert stable_share(points, points) == 1

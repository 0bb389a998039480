"""An adaptation of a small network: it learns, and resumes with the same bits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reid_edge.adaptation import adapt as adapting
from reid_edge.adaptation.adapt import AdaptConfig, adapt
from reid_edge.adaptation.adaptation_settings import AdaptationSettings
from reid_edge.adaptation.clustering import find_clusters
from reid_edge.adaptation.site import Site
from reid_edge.adaptation.site_views import embed_changed
from reid_edge.core.errors import DivergenceError, TrainingError
from reid_edge.core.progress import Progress, count_of
from reid_edge.data.schema import ReidData
from tests.networks import SmallNet

pytestmark = pytest.mark.medium

SETTINGS = AdaptationSettings(
    epochs=3, steps=2, clusters_per_batch=2, images_per_cluster=2, min_samples=2, k1=6, k2=2
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return SmallNet(0.5)


@pytest.fixture(scope="module")
def config(tiny_data: ReidData, tmp_path_factory: pytest.TempPathFactory) -> AdaptConfig:
    return AdaptConfig(
        images=tiny_data.train,
        site=Site(cameras=np.array([image.camera for image in tiny_data.train])),
        settings=SETTINGS,
        height=32,
        width=16,
        seed=4,
        folder=tmp_path_factory.mktemp("whole"),
        label="adapt",
        log=("csv",),
    )


@pytest.fixture(scope="module")
def whole(config: AdaptConfig) -> nn.Module:
    model = network()
    found = adapt(model, config)
    assert [one.epoch for one in found] == [1, 2, 3]
    assert all(one.clusters >= 2 for one in found)
    return model


def test_it_tells_how_far_it_is(config: AdaptConfig, tmp_path: Path) -> None:
    shown: dict[str, list[str]] = {}

    def start(
        title: str, count: Callable[[int, int], str] = count_of, /, *, lines: bool = True
    ) -> Progress:
        del lines
        said = shown.setdefault(title, [])
        # The end is reported as 1 of 1.
        return lambda done, total: said.append(count(done, total)) if total > 1 else None

    adapt(network(), replace(config, folder=tmp_path, work=start))
    count = len(config.images)
    for epoch in (1, 2, 3):
        assert shown[f"adapt: epoch {epoch} of 3, embedding images"][-1] == count_of(count, count)
    batches = [f"epoch {e} of 3, batch {b} of 2" for e in (1, 2, 3) for b in (1, 2)]
    assert shown["adapt: training"] == batches


def test_changed_copies_tell_how_far_they_are(tiny_data: ReidData) -> None:
    images, seen = [*tiny_data.train, *tiny_data.gallery] * 2, list[tuple[int, int]]()
    count = len(images)
    assert count > 64
    embeddings = embed_changed(
        network(), images, height=32, width=16, seed=3,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert len(embeddings) == count
    assert seen == [(min(end, count), count) for end in range(64, count + 64, 64)]


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_and_writes_a_row_an_epoch(whole: nn.Module, config: AdaptConfig) -> None:
    assert not same_bits(whole, network())
    assert len((config.folder / "metrics.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize("place", ["between two epochs", "in an epoch"])
def test_a_killed_adaptation_ends_with_the_same_bits(
    place: str,
    whole: nn.Module,
    config: AdaptConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def stop(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("killed")

    killed = replace(config, folder=tmp_path)
    with monkeypatch.context() as patch:
        if place == "in an epoch":
            killed = replace(killed, after_epoch=stop)
        else:
            patch.setattr(adapting, "find_clusters", lambda *a: stop(*a) or find_clusters(*a))
        with pytest.raises(RuntimeError, match="killed"):
            adapt(network(), killed)
    resumed = network()
    found = adapt(resumed, replace(config, folder=tmp_path))
    assert same_bits(resumed, whole)
    assert [one.epoch for one in found] == [1, 2, 3]
    # A finished one is read, not made again.
    again = network()
    assert adapt(again, replace(config, folder=tmp_path)) == found
    assert same_bits(again, whole)


def test_too_few_clusters_are_refused(config: AdaptConfig, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"clusters_per_batch": 40})
    with pytest.raises(TrainingError, match=r"clusters among 48 images .* a batch takes 40: give"):
        adapt(network(), replace(config, settings=settings, folder=tmp_path))


def test_a_loss_that_is_not_finite_ends_it(config: AdaptConfig, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "optimizer": "sgd"})
    with pytest.raises(DivergenceError, match="is not finite"):
        adapt(network(), replace(config, settings=settings, folder=tmp_path))

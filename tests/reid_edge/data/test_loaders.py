"""Batches are functions of seed and epoch, whatever loads them."""

from collections import Counter

import numpy as np
import pytest
import torch

from reid_edge.core.errors import TrainingError
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.loaders import EveryBatch, evaluation_loader, training_loader
from reid_edge.data.sampling import EpochSampler, NeighbourSampler
from reid_edge.data.schema import ReidData, choose_over_cameras, relabel

VARIED = AugmentationSettings(flip=0.5, crop_padding=4, erasing=0.5, colour_jitter=0.2)


def batches(
    data: ReidData, *, workers: int = 0, epoch: int = 0, seed: int = 3
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader = training_loader(
        data.train,
        augmentation=VARIED,
        height=64,
        width=32,
        identities_per_batch=4,
        images_per_identity=3,
        seed=seed,
        workers=workers,
    )
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [tuple(batch) for batch in loader]  # type: ignore[misc]


def test_batches_hold_p_identities_of_k_images(tiny_data: ReidData) -> None:
    found = batches(tiny_data)
    assert len(found) == len(tiny_data.train) // 12
    for images, classes in found:
        assert images.shape == (12, 3, 64, 32)
        assert images.dtype == torch.float32
        assert sorted(Counter(classes.tolist()).values()) == [3, 3, 3, 3]


def test_workers_do_not_change_a_batch(tiny_data: ReidData) -> None:
    torch.manual_seed(0)
    alone = batches(tiny_data)
    torch.manual_seed(99)
    helped = batches(tiny_data, workers=2)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
               for a, b in zip(alone, helped, strict=True))  # fmt: skip


def test_epoch_and_seed_change_every_batch(tiny_data: ReidData) -> None:
    first = batches(tiny_data)
    for other in (batches(tiny_data, epoch=1), batches(tiny_data, seed=4)):
        assert not any(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))
    again = batches(tiny_data, epoch=0)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))


def test_the_global_random_state_is_left_alone(tiny_data: ReidData) -> None:
    torch.manual_seed(0)
    expected = torch.randn(2)
    torch.manual_seed(0)
    loader = training_loader(
        tiny_data.train, augmentation=VARIED, height=64, width=32, identities_per_batch=4,
        images_per_identity=3, seed=3, workers=0,
    )  # fmt: skip
    dataset = loader.dataset
    dataset[(0, 1)]  # type: ignore[index]
    assert torch.equal(torch.randn(2), expected)


def test_too_few_identities_or_images(tiny_data: ReidData) -> None:
    settings = {"augmentation": VARIED, "height": 8, "width": 8, "seed": 0, "workers": 0}
    with pytest.raises(TrainingError, match="is 9, but the training set has only 8 identities"):
        training_loader(tiny_data.train, identities_per_batch=9, images_per_identity=2, **settings)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="8 x 16 needs 128 images"):
        training_loader(tiny_data.train, identities_per_batch=8, images_per_identity=16, **settings)  # type: ignore[arg-type]


def test_evaluation_keeps_the_order(tiny_data: ReidData) -> None:
    loader = evaluation_loader(tiny_data.query, height=64, width=32, batch_size=3, workers=0)
    images = torch.cat(list(loader))
    one_by_one = torch.cat(
        list(evaluation_loader(tiny_data.query, height=64, width=32, batch_size=1, workers=0))
    )
    assert torch.equal(images, one_by_one)


def test_relabelling_follows_the_order_of_identities(tiny_data: ReidData) -> None:
    persons = [image.person for image in tiny_data.train]
    classes = relabel(tiny_data.train)
    assert sorted(set(classes)) == list(range(8))
    pairs = sorted(set(zip(persons, classes, strict=True)))
    assert [label for _, label in pairs] == list(range(8))


def test_a_draw_is_even_over_the_cameras(tiny_data: ReidData) -> None:
    chosen = choose_over_cameras(tiny_data.train, 10, seed=1)
    assert len(set(chosen)) == 10
    assert Counter(image.camera for image in chosen) == {1: 5, 2: 5}
    assert chosen == choose_over_cameras(tiny_data.train[::-1], 10, seed=1)
    assert len(choose_over_cameras(tiny_data.train, 10_000, seed=1)) == len(tiny_data.train)


def test_an_epoch_does_not_depend_on_those_before_it(tiny_data: ReidData) -> None:
    classes = relabel(tiny_data.train)
    samplers = [
        EpochSampler(classes, identities_per_batch=4, images_per_identity=3, seed=0)
        for _ in range(2)
    ]
    for epoch in range(3):
        samplers[0].set_epoch(epoch)
        last = list(samplers[0])
    samplers[1].set_epoch(2)
    assert list(samplers[1]) == last


@pytest.mark.parametrize(("identities", "apart"), [(4, True), (5, False)])
def test_ranks_share_no_identity_in_a_step_where_there_are_enough(
    tiny_data: ReidData, identities: int, apart: bool
) -> None:
    classes = relabel(tiny_data.train)  # eight identities
    sampler = EpochSampler(
        classes, identities_per_batch=identities, images_per_identity=2, seed=0, replicas=2
    )
    steps = [
        [list(sampler.of_rank(rank))[start : start + 2 * identities] for rank in (0, 1)]
        for start in range(0, len(sampler), 2 * identities)
    ]
    drawn = [[{classes[index] for index, _ in batch} for batch in step] for step in steps]
    assert len(steps) == len(classes) // (2 * identities) // 2
    assert all(len(found) == identities for step in drawn for found in step)
    assert all(first.isdisjoint(second) for first, second in drawn) == apart
    # No image has the seed of another one.
    seeds = [seed for step in steps for batch in step for _, seed in batch]
    assert len(set(seeds)) == len(seeds)


def test_every_batch_of_an_evaluation_is_some_rank_s(tiny_data: ReidData) -> None:
    batches = EveryBatch(7, 3, 2)
    assert [*batches] == [[0, 1, 2], [6]]  # rank 0; there is no process group
    loader = evaluation_loader(
        tiny_data.gallery, height=32, width=16, batch_size=3, workers=0, replicas=2
    )
    alone = evaluation_loader(tiny_data.gallery, height=32, width=16, batch_size=3, workers=0)
    whole = list(alone)[::2]
    assert len(loader) == len(whole)
    assert all(torch.equal(*pair) for pair in zip(loader, whole, strict=True))


def test_neighbours_are_drawn_together() -> None:
    # Twenty places in a row; the neighbours are the four nearest ones.
    places = np.arange(20)
    order = np.argsort(np.abs(places[:, None] - places), axis=1, kind="stable")
    neighbours = order[:, 1:5]

    def draw(epoch: int) -> list[tuple[int, int]]:
        sampler = NeighbourSampler(neighbours, groups_per_batch=2, images_per_group=3, seed=1)
        sampler.set_epoch(epoch)
        assert len(sampler) == 18
        return list(sampler)

    drawn = draw(0)
    images = [index for index, _ in drawn]
    for start in range(0, 18, 3):
        first, *others = images[start : start + 3]
        assert set(others) <= set(neighbours[first])
        assert len({first, *others}) == 3
    # Nearly all are drawn in an epoch, each with an augmentation of its own.
    assert len(set(images)) >= 15
    assert len({seed for _, seed in drawn}) == 18
    assert draw(0) == drawn
    assert draw(1) != drawn


def test_without_neighbours_no_image_is_drawn_twice() -> None:
    sampler = NeighbourSampler(
        np.empty((22, 0), dtype=np.int64), groups_per_batch=5, images_per_group=1, seed=1
    )
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        orders.append([index for index, _ in sampler])
        # Those of no whole batch are left out.
        assert len(orders[-1]) == len(sampler) == 20
        assert len(set(orders[-1])) == 20
    assert orders[0] != orders[1]


def test_batches_of_one_image_of_each_person(tiny_data: ReidData) -> None:
    classes = relabel(tiny_data.train)
    sampler = EpochSampler(classes, identities_per_batch=4, images_per_identity=1, seed=1)
    drawn = [classes[index] for index, _ in sampler]
    assert len(drawn) == len(sampler) == len(classes) // 4 * 4
    for start in range(0, len(drawn), 4):
        assert len(set(drawn[start : start + 4])) == 4


def test_too_few_images_for_a_batch_of_neighbours() -> None:
    neighbours = np.zeros((5, 3), dtype=np.int64)
    with pytest.raises(TrainingError, match="a batch of 2 x 3 needs 6 images, but the training"):
        NeighbourSampler(neighbours, groups_per_batch=2, images_per_group=3, seed=1)

from itertools import islice

import numpy as np
import pytest
from pytorch_metric_learning.samplers import MPerClassSampler

from reid_edge.core.seeding import derive_seed
from reid_edge.data.sampling import EpochSampler, draw_batches


def naive_epoch(classes, identities, images, seed):
    """Draw as this project did at first: with the library's sampler and the global generator."""
    batch = identities * images
    inner = MPerClassSampler(
        classes, images, batch, length_before_new_iter=len(classes) // batch * batch
    )
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        return [int(index) for index in inner]
    finally:
        np.random.set_state(state)


# (images of each identity, P, K): few and many images, more draws than images, one batch alone.
SETS = [
    ([3] * 8, 4, 3),
    ([1, 2, 9, 40, 4, 4, 4, 5, 1, 1], 4, 4),
    ([1] * 50, 16, 2),
    ([700, 1, 300, 2], 2, 8),
    ([4, 4], 2, 4),
]


@pytest.mark.parametrize(("members", "identities", "images"), SETS)
def test_the_batches_are_those_of_the_librarys_sampler(members, identities, images) -> None:
    classes = np.repeat(np.arange(len(members)), members)
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(classes).tolist()
        sampler = EpochSampler(
            shuffled, identities_per_batch=identities, images_per_identity=images, seed=seed
        )
        sampler.set_epoch(seed)
        epoch = derive_seed(seed, "epoch", seed)
        expected = naive_epoch(shuffled, identities, images, epoch)
        assert list(sampler) == [(i, derive_seed(epoch, p)) for p, i in enumerate(expected)]
        assert len(sampler) == len(expected) > 0


def test_a_draw_leaves_the_global_generator_alone() -> None:
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    list(islice(draw_batches(np.arange(6).repeat(2), 2, 2, seed=0), 5))
    assert np.array_equal(np.random.random(4), expected)

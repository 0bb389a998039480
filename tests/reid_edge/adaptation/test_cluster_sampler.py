"""Batches of clusters."""

import numpy as np

from reid_edge.adaptation.cluster_sampler import ClusterSampler

LABELS = np.array([0, 0, 0, 1, 1, -1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4])


def sampler(**changed: object) -> ClusterSampler:
    options = {"clusters_per_batch": 3, "images_per_cluster": 2, "steps": 5, "seed": 1}
    cameras = changed.pop("cameras", None)
    return ClusterSampler(LABELS, cameras, **{**options, **changed})  # type: ignore[arg-type]


def test_every_batch_has_p_clusters_with_k_images_and_no_outlier() -> None:
    drawn = list(sampler())
    assert len(drawn) == len(sampler()) == 30
    batches = LABELS[[index for index, _ in drawn]].reshape(5, 3, 2)
    for batch in batches:
        assert (batch[:, 0] == batch[:, 1]).all()
        assert len(set(batch[:, 0].tolist())) == 3
        assert (batch >= 0).all()
    # Five batches of three draw each of the five clusters three times.
    assert np.bincount(batches[:, :, 0].ravel()).tolist() == [3] * 5
    assert len({seed for _, seed in drawn}) == 30


def test_images_are_not_repeated_unless_a_cluster_is_small() -> None:
    indices = np.array([index for index, _ in sampler(images_per_cluster=3)]).reshape(5, 3, 3)
    for group in indices.reshape(-1, 3):
        assert len(set(group.tolist())) == min(3, int((LABELS[group[0]] == LABELS).sum()))


def test_the_cameras_of_a_cluster_take_turns() -> None:
    cameras = np.where(np.arange(len(LABELS)) == 6, 2, 1)
    indices = np.array([index for index, _ in sampler(cameras=cameras)]).reshape(-1, 2)
    for group in indices:
        if LABELS[group[0]] == 2:
            assert 6 in group


def test_the_draw_is_a_function_of_seed_and_epoch() -> None:
    one, again, other = sampler(), sampler(), sampler()
    other.set_epoch(1)
    assert list(one) == list(again) == list(one)
    assert list(one) != list(other)
    assert list(one) != list(sampler(seed=2))

"""Clusters of embeddings, with cameras, tracks and tracks that are seen at once."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reid_edge.adaptation.clustering import (
    ClusterOptions,
    Clusters,
    check_clusters,
    find_clusters,
    neighbours_of,
    representatives,
    without_camera_means,
)
from reid_edge.adaptation.site import Site
from reid_edge.core.errors import TrainingError

OPTIONS = ClusterOptions(k1=6, k2=3)


def persons(count: int, images: int, *, noise: float = 0.2, seed: int = 0) -> Tensor:
    """Embeddings of persons, image after image of each."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 32, generator=generator)
    spread = torch.randn(count * images, 32, generator=generator)
    return centres.repeat_interleave(images, dim=0) + noise * spread


def test_persons_become_clusters_in_the_order_of_their_images() -> None:
    clusters = find_clusters(persons(6, 8), Site(), OPTIONS)
    assert clusters.labels.tolist() == np.repeat(np.arange(6), 8).tolist()
    assert (clusters.count, clusters.outliers, clusters.largest) == (6, 0, 8)
    assert str(clusters) == "6 clusters of 48 images, 0 outliers"


def test_the_number_of_neighbours_fits_the_size_of_clusters() -> None:
    embeddings, truth = persons(60, 5, noise=0.6), np.repeat(np.arange(60), 5)
    chosen = find_clusters(embeddings, Site(), ClusterOptions())
    usual = find_clusters(embeddings, Site(), ClusterOptions(k1=30))
    neighbours, same = 30, usual
    while (fitting := neighbours_of(same.labels)) < neighbours:
        neighbours = fitting
        same = find_clusters(embeddings, Site(), ClusterOptions(k1=neighbours))
    assert neighbours < 30
    assert np.array_equal(chosen.labels, same.labels)

    def precision(clusters: Clusters) -> float:
        inside = clusters.labels >= 0
        labels, of = clusters.labels[inside], truth[inside]
        together = labels[:, None] == labels[None, :]
        return float((of[:, None] == of[None, :])[together].mean())

    assert precision(chosen) > precision(usual)


@pytest.mark.parametrize(("sizes", "neighbours"), [([5, 7], 12), ([2, 2], 8), ([40], 30), ([], 8)])
def test_twice_the_mean_size_within_limits(sizes: list[int], neighbours: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert neighbours_of(np.append(labels, [-1, -1]).astype(np.int64)) == neighbours


def test_images_without_neighbours_are_outliers() -> None:
    alone = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    clusters = find_clusters(torch.cat((persons(6, 8), alone)), Site(), OPTIONS)
    assert clusters.labels[-3:].tolist() == [-1, -1, -1]
    assert clusters.outliers == 3


def test_what_a_camera_adds_is_taken_off() -> None:
    embeddings = persons(6, 40)
    cameras = np.tile([1, 2], 120)
    light = torch.randn(32, generator=torch.Generator().manual_seed(3)) * 0.8
    second = torch.from_numpy(cameras == 2)
    shifted = embeddings + second[:, None] * light

    def gap(features: Tensor) -> float:
        unit = torch.nn.functional.normalize(features, dim=1)
        return float((unit[second].mean(0) - unit[~second].mean(0)).norm())

    assert gap(without_camera_means(shifted, cameras)) < 0.4 * gap(shifted)
    options = ClusterOptions(k1=30, k2=6)
    apart = ClusterOptions(k1=30, k2=6, by_camera=False)
    assert find_clusters(shifted, Site(cameras=cameras), options).count == 6
    assert find_clusters(shifted, Site(cameras=cameras), apart).count == 12


def test_images_of_a_track_stay_together() -> None:
    # A track whose images look like two persons.
    embeddings = persons(2, 10)
    tracks = np.full(20, -1)
    tracks[8:12] = 0
    clusters = find_clusters(embeddings, Site(tracks=tracks), OPTIONS)
    assert len(set(clusters.labels[8:12].tolist())) == 1
    assert clusters.labels[8] != -1


def test_tracks_seen_at_once_are_never_in_one_cluster() -> None:
    # Four tracks of a person by its looks; the first two are seen at once.
    embeddings = torch.cat((persons(1, 24), persons(3, 8, seed=9)))
    tracks = np.concatenate((np.repeat([0, 1, 2, 3], 6), np.full(24, -1)))
    together = find_clusters(embeddings, Site(tracks=tracks), OPTIONS)
    assert len(set(together.labels[:24].tolist())) == 1
    known = Site(tracks=tracks, apart=frozenset({(0, 1)}))
    apart = find_clusters(embeddings, known, OPTIONS)
    of_track = [set(apart.labels[tracks == track].tolist()) for track in range(4)]
    assert all(len(labels) == 1 for labels in of_track)
    assert of_track[0] != of_track[1]
    assert of_track[2] | of_track[3] <= of_track[0] | of_track[1]
    assert apart.labels[24:].tolist() == (together.labels[24:] + 1).tolist()


def test_images_to_cluster_are_spread_evenly_over_a_long_track() -> None:
    tracks = np.array([-1, 7, 7, 7, 7, 7, -1, 8])
    assert representatives(tracks, 3).tolist() == [0, 1, 3, 5, 6, 7]
    embeddings = persons(6, 8)
    long = np.concatenate((np.repeat([0], 8), np.full(40, -1)))
    clusters = find_clusters(
        embeddings, Site(tracks=long), ClusterOptions(k1=6, k2=3, images_of_track=4)
    )
    assert clusters.labels.tolist() == np.repeat(np.arange(6), 8).tolist()


def test_one_cluster_and_too_few_are_refused_with_what_to_do() -> None:
    one = Clusters(np.zeros(70, dtype=np.int64))
    with pytest.raises(TrainingError, match=r"all 70 images are one cluster: they show one person"):
        check_clusters(one, fewest=4)
    three = Clusters(np.array([0, 1, 2, -1] * 5))
    with pytest.raises(
        TrainingError, match=r"3 clusters among 20 images \(5 in none\), and a batch takes 4: give"
    ):
        check_clusters(three, fewest=4)
    check_clusters(three, fewest=3)

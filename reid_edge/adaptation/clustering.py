"""Clusters of unlabelled images: DBSCAN on Jaccard distances of k-reciprocal neighbours.

Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID",
NeurIPS 2020, and Dai et al., "Cluster Contrast for Unsupervised Person Re-identification", ACCV
2022, cluster so. Here tracks and tracks that are seen at once are respected, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid_edge.adaptation.site import NO_TRACK, IntegerRow, Site
from reid_edge.core.errors import TrainingError
from reid_edge.metrics.distances import unit_length
from reid_edge.metrics.jaccard import jaccard_graph

if TYPE_CHECKING:
    from scipy.sparse import csr_array

OUTLIER = -1
# A camera of few images has an uncertain mean: this many images count half.
HALF_TRUSTED = 16
# Neighbours that must be mutual: as the papers have it, and the least that is chosen from sizes.
MOST_NEIGHBOURS, FEWEST_NEIGHBOURS = 30, 8
# Each change clusters all images again; later ones are small.
MOST_CHANGES = 3


@dataclass(frozen=True)
class ClusterOptions:
    """How images are clustered.

    Attributes:
        eps: largest Jaccard distance of neighbours, between 0 and 1.
        min_samples: images within ``eps`` that begin a cluster, the image itself counted.
        k1: neighbours that must be mutual; None: 30, then up to three times twice the mean size of
            the clusters, as long as that is less; 8 at least. Too many neighbours join different
            persons.
        k2: neighbours that a description is averaged over.
        by_camera: take each camera's mean off the embeddings first, where cameras are known.
        images_of_track: images of each track that are clustered, evenly over the track; the others
            follow them. Many images of one track would be each other's only neighbours.
    """

    eps: float = 0.5
    min_samples: int = 4
    k1: int | None = None
    k2: int = 6
    by_camera: bool = True
    images_of_track: int = 8


@dataclass(frozen=True)
class Clusters:
    """Clusters of images.

    Attributes:
        labels: cluster of each image from 0, -1 for outliers, int64 (images,).
    """

    labels: IntegerRow

    @property
    def count(self) -> int:
        """The number of clusters."""
        return int(self.labels.max(initial=OUTLIER)) + 1

    @property
    def outliers(self) -> int:
        """The number of images in no cluster."""
        return int((self.labels == OUTLIER).sum())

    @property
    def largest(self) -> int:
        """The number of images in the largest cluster."""
        inside = self.labels[self.labels != OUTLIER]
        return int(np.bincount(inside).max()) if len(inside) else 0

    def __str__(self) -> str:
        """Give the counts in words."""
        return (
            f"{self.count} clusters of {len(self.labels) - self.outliers} images, "
            f"{self.outliers} outliers"
        )


def without_camera_means(embeddings: Tensor, cameras: IntegerRow) -> Tensor:
    """Return unit embeddings whose mean is the same on all cameras.

    What all images of a camera have in common, such as its light, is not of the persons. The mean
    of a camera with few images is taken off in part.

    Args:
        embeddings: shape (images, dimensions).
        cameras: of the images.
    """
    unit = unit_length(embeddings.detach().float())
    mean = unit.mean(0)
    result = unit.clone()
    for camera in np.unique(cameras):
        rows = torch.from_numpy(np.flatnonzero(cameras == camera))
        trust = len(rows) / (len(rows) + HALF_TRUSTED)
        result[rows] -= trust * (unit[rows].mean(0) - mean)
    return unit_length(result)


def find_clusters(embeddings: Tensor, site: Site, options: ClusterOptions) -> Clusters:
    """Cluster images; the result is a function of the arguments.

    Images of one track are in one cluster or all outliers. No cluster holds two tracks that are
    seen at once.

    Args:
        embeddings: shape (images, dimensions), on the CPU.
        site: cameras and tracks of the images.
        options: see `ClusterOptions`.
    """
    count = len(embeddings)
    tracks = site.track_of(count)
    chosen = representatives(tracks, options.images_of_track)
    features = embeddings[torch.from_numpy(chosen)]
    if options.by_camera and site.cameras is not None:
        features = without_camera_means(features, site.cameras[chosen])
    k1 = options.k1 or MOST_NEIGHBOURS
    graph, found = _scan(features, tracks[chosen], site, options, k1)
    # Fewer neighbours make smaller clusters, for which fewer neighbours fit.
    for _ in range(MOST_CHANGES if options.k1 is None else 0):
        if (fitting := neighbours_of(found)) >= k1:
            break
        k1 = fitting
        graph, found = _scan(features, tracks[chosen], site, options, k1)
    labels = np.full(count, OUTLIER, dtype=np.int64)
    labels[chosen] = found
    labels = _one_cluster_a_track(labels, tracks)
    if site.apart:
        labels = _split_conflicts(labels, tracks, site, chosen, graph)
    return Clusters(_renumbered(labels))


def _scan(
    features: Tensor, tracks: IntegerRow, site: Site, options: ClusterOptions, k1: int
) -> tuple[csr_array, IntegerRow]:
    """Return the Jaccard distances of images, and the clusters that DBSCAN finds in them."""
    from sklearn.cluster import DBSCAN

    graph = jaccard_graph(features, largest=options.eps, k1=k1, k2=options.k2)
    graph = _with_tracks(graph, tracks, site)
    scan = DBSCAN(eps=options.eps, min_samples=options.min_samples, metric="precomputed")
    return graph, scan.fit(graph).labels_.astype(np.int64)


def neighbours_of(labels: IntegerRow) -> int:
    """Return how many neighbours must be mutual for clusters of the size that these have."""
    sizes = np.bincount(labels[labels != OUTLIER])
    if not len(sizes):
        return FEWEST_NEIGHBOURS
    return int(np.clip(round(2 * float(sizes.mean())), FEWEST_NEIGHBOURS, MOST_NEIGHBOURS))


def representatives(tracks: IntegerRow, most: int) -> IntegerRow:
    """Return the images to cluster: all without a track, and some of each track, evenly over it."""
    kept = [np.flatnonzero(tracks == NO_TRACK)]
    for track in np.unique(tracks[tracks != NO_TRACK]):
        members = np.flatnonzero(tracks == track)
        places = np.linspace(0, len(members) - 1, min(most, len(members))).round().astype(np.int64)
        kept.append(members[places])
    return np.sort(np.concatenate(kept))


def _with_tracks(graph: csr_array, tracks: IntegerRow, site: Site) -> csr_array:
    """Return distances in which images of a track are equal and tracks seen at once are far."""
    from scipy.sparse import coo_array

    if (tracks == NO_TRACK).all():
        return graph
    entries = graph.tocoo()
    rows, columns, values = entries.coords[0], entries.coords[1], entries.data
    of_row, of_column = tracks[rows], tracks[columns]
    same = (of_row == of_column) & (of_row != NO_TRACK)
    conflicts = np.zeros(len(rows), dtype=bool)
    if site.apart:
        conflicts = np.array(
            [site.conflict(int(a), int(b)) for a, b in zip(of_row, of_column, strict=True)]
        )
    kept = ~same & ~conflicts
    known = np.flatnonzero(tracks != NO_TRACK)
    members = [known[tracks[known] == track] for track in np.unique(tracks[known])]
    sure = np.concatenate([np.stack(np.meshgrid(m, m), axis=-1).reshape(-1, 2) for m in members])
    # Stored zeros are neighbours for scikit-learn. An entry must not stand twice: it would be
    # summed.
    return coo_array(
        (
            np.concatenate((values[kept], np.zeros(len(sure)))),
            (np.concatenate((rows[kept], sure[:, 0])), np.concatenate((columns[kept], sure[:, 1]))),
        ),
        graph.shape,
    ).tocsr()


def _one_cluster_a_track(labels: IntegerRow, tracks: IntegerRow) -> IntegerRow:
    """Give all images of a track the cluster that most of its images are in."""
    result = labels.copy()
    for track in np.unique(tracks[tracks != NO_TRACK]):
        members = np.flatnonzero(tracks == track)
        inside = labels[members][labels[members] != OUTLIER]
        result[members] = np.bincount(inside).argmax() if len(inside) else OUTLIER
    return result


def _split_conflicts(
    labels: IntegerRow, tracks: IntegerRow, site: Site, chosen: IntegerRow, graph: csr_array
) -> IntegerRow:
    """Split each cluster that holds tracks seen at once, by average linkage of its parts.

    A part is a track or an image without one. The two nearest parts without a conflict are merged
    until none are nearer than 1, which is the distance of pairs that ``graph`` does not hold.
    """
    result, free = labels.copy(), int(labels.max(initial=OUTLIER)) + 1
    for cluster in range(free):
        members = np.flatnonzero(labels == cluster)
        present = np.unique(tracks[members][tracks[members] != NO_TRACK])
        conflicts = [(a, b) for a, b in combinations(present.tolist(), 2) if site.conflict(a, b)]
        if not conflicts:
            continue
        # The number of each image's part: those of tracks first.
        parts = np.searchsorted(present, tracks[members])
        single = tracks[members] == NO_TRACK
        parts[single] = len(present) + np.arange(single.sum())
        apart = np.zeros((parts.max() + 1, parts.max() + 1), dtype=bool)
        for a, b in conflicts:
            i, j = np.searchsorted(present, (a, b))
            apart[i, j] = apart[j, i] = True
        rows = np.flatnonzero(np.isin(chosen, members))
        part_of_row = parts[np.searchsorted(members, chosen[rows])]
        found = graph[rows][:, rows].tocoo()
        distances = np.ones((len(rows), len(rows)))
        distances[found.coords] = found.data
        groups = _average_linkage(distances, part_of_row, apart)[parts]
        by_size = np.argsort(-np.bincount(groups), kind="stable")
        for group in by_size[1:]:
            if (groups == group).any():
                result[members[groups == group]] = free
                free += 1
    return result


def _average_linkage(
    distances: npt.NDArray[np.float64], parts: IntegerRow, apart: npt.NDArray[np.bool_]
) -> IntegerRow:
    """Return the group of each part, a number of one of its parts.

    Args:
        distances: among images, at most 1, (images, images).
        parts: of the images.
        apart: parts that must not be in one group, (parts, parts).
    """
    count = len(apart)
    member = (parts[:, None] == np.arange(count)).astype(np.float64)
    sums, sizes, apart = member.T @ distances @ member, member.sum(0), apart.copy()
    groups = np.arange(count)
    np.fill_diagonal(apart, True)
    while True:
        means = np.where(apart, np.inf, sums / np.outer(sizes, sizes))
        i, j = np.unravel_index(means.argmin(), means.shape)
        if not means[i, j] < 1:
            return groups
        groups[groups == groups[j]] = groups[i]
        sums[i] += sums[j]
        sums[:, i] += sums[:, j]
        sizes[i] += sizes[j]
        apart[i] |= apart[j]
        apart[:, i] |= apart[:, j]
        apart[j] = apart[:, j] = True


def _renumbered(labels: IntegerRow) -> IntegerRow:
    """Number clusters by their first image."""
    values, first = np.unique(labels[labels != OUTLIER], return_index=True)
    order = values[np.argsort(np.flatnonzero(labels != OUTLIER)[first], kind="stable")]
    numbers = {int(old): new for new, old in enumerate(order)}
    return np.array([numbers.get(int(label), OUTLIER) for label in labels], dtype=np.int64)


def check_clusters(clusters: Clusters, *, fewest: int) -> None:
    """Check that there is something to learn from the clusters.

    Raises:
        TrainingError: all images are in one cluster, or there are too few clusters.
    """
    if clusters.count == 1 and not clusters.outliers:
        raise TrainingError(
            f"all {len(clusters.labels)} images are one cluster: they show one person, or the "
            "model does not tell these persons apart; lower adapt.eps if they are many"
        )
    if clusters.count < fewest:
        raise TrainingError(
            f"{clusters.count} clusters among {len(clusters.labels)} images "
            f"({clusters.outliers} in none), and a batch takes {fewest}: give more images of each "
            "person, raise adapt.eps, or lower adapt.clusters_per_batch"
        )

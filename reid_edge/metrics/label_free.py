"""Measures without identities: how a student orders images like its teacher, and tracks.

They say how like the teacher the student is, and not how well either tells people apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.data.schema import Sample
from reid_edge.metrics.distances import (
    IntegerArray,
    refuse_non_finite,
    unit_length,
)
from reid_edge.metrics.ranking import evaluate_ranking
from reid_edge.metrics.results import LabelFreeResult, TrackResult

NEAREST = 10
# Rows whose ranks are compared, evenly over the images; each is a sort of all images.
MOST_RANKED = 1000
# Images of a half of a track, evenly over it.
MOST_OF_HALF = 10
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Tracks:
    """Tracks of images; each shows one person on one camera.

    Attributes:
        numbers: track of each image, shape (N,).
        cameras: camera of each image, shape (N,).
        frames: frame of each image, shape (N,); None where they are not known.
    """

    numbers: IntegerArray
    cameras: IntegerArray
    frames: IntegerArray | None = None

    @classmethod
    def of(cls, images: Sequence[Sample]) -> Tracks:
        """Return the tracks of images of a set of tracks."""
        frames = [image.frame for image in images]
        return cls(
            np.array([image.person for image in images], dtype=np.int64),
            np.array([image.camera for image in images], dtype=np.int64),
            None if None in frames else np.array(frames, dtype=np.int64),
        )

    def halves(self) -> list[tuple[IntegerArray, IntegerArray]]:
        """Return the places of the images of both halves of each track of two images or more.

        The halves are those of its frames, or of the images in their order; of each, at most ten
        images count.
        """
        found = []
        for track in np.unique(self.numbers):
            places = np.flatnonzero(self.numbers == track)
            if self.frames is not None:
                places = places[np.argsort(self.frames[places], kind="stable")]
            if len(places) > 1:
                middle = len(places) // 2
                found.append((_evenly(places[:middle]), _evenly(places[middle:])))
        return found

    def seen_at_once(self) -> list[tuple[int, int]]:
        """Return pairs of tracks of one camera with images of one frame: two people, for sure."""
        if self.frames is None:
            return []
        together: dict[tuple[int, int], set[int]] = {}
        for camera, frame, track in zip(
            self.cameras.tolist(), self.frames.tolist(), self.numbers.tolist(), strict=True
        ):
            together.setdefault((camera, frame), set()).add(track)
        return sorted(
            {
                (one, two)
                for tracks in together.values()
                for one in tracks
                for two in tracks
                if one < two
            }
        )

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return pairs of images by which same and different people are told apart.

        Returns:
            Places (P, 2), and whether each pair is of one person, bool (P,): pairs of both halves
            of a track, and pairs of two tracks that are seen at once.
        """
        genuine = [_product(first, second) for first, second in self.halves()]
        of_track = {track: _evenly(np.flatnonzero(self.numbers == track))
                    for pair in self.seen_at_once() for track in pair}  # fmt: skip
        impostor = [_product(of_track[one], of_track[two]) for one, two in self.seen_at_once()]
        found = [np.concatenate(part) if part else np.empty((0, 2), dtype=np.int64)
                 for part in (genuine, impostor)]  # fmt: skip
        same = torch.arange(sum(map(len, found))) < len(found[0])
        return torch.from_numpy(np.concatenate(found)), same


def evaluate_label_free(
    teacher: Tensor, student: Tensor, tracks: Tracks | None = None
) -> LabelFreeResult:
    """Compare how a student and its teacher order images, by cosine similarity.

    An image is compared with all others; with tracks, with those of other tracks, because the
    nearest ones would otherwise be those of the frames beside it. Rank correlation is Spearman's,
    of an image's similarities to the others, the mean over at most 1,000 images.

    Args:
        teacher: its embeddings, shape (N, D_teacher), of any length.
        student: its embeddings of the same images, shape (N, D_student).
        tracks: of the images, if they are known.

    Raises:
        DataError: there are fewer than three images, the numbers differ, or an embedding is not
            finite.
    """
    if teacher.ndim != 2 or student.ndim != 2 or len(teacher) != len(student) or len(teacher) < 3:
        raise DataError(
            f"embeddings of shape {tuple(teacher.shape)} and {tuple(student.shape)}; expected "
            "(images, dimensions), of the same three images or more"
        )
    for name, features in (("teacher", teacher), ("student", student)):
        refuse_non_finite(name, features)
    exact, own = (unit_length(features.detach().cpu().double()) for features in (teacher, student))
    groups = torch.arange(len(exact))
    if tracks is not None:
        numbers = torch.from_numpy(tracks.numbers)
        # Of a set that is nearly one track, other tracks have too few images to compare with.
        if len(exact) - int(torch.bincount(numbers - numbers.min()).max()) >= NEAREST:
            groups = numbers
    same, overlap, correlation = _compare_orders(exact, own, groups)
    cosines = (exact * own).sum(1) if exact.shape == own.shape else None
    return LabelFreeResult(
        images=len(exact),
        mean_cosine=None if cosines is None else float(cosines.mean()),
        lowest_cosine=None if cosines is None else float(cosines.min()),
        same_nearest=same,
        nearest_overlap=overlap,
        rank_correlation=correlation,
        spread=spread(own),
        teacher_spread=spread(exact),
        tracks=None if tracks is None else _compare_tracks(exact, own, tracks),
    )


def spread(embeddings: Tensor) -> float:
    """Return the variance of embeddings (N, D) over N, at unit length, summed over D."""
    return float(unit_length(embeddings.double()).var(0, correction=0).sum())


def nearest_others(embeddings: Tensor, count: int) -> Tensor:
    """Return the places (N, count) of the other images that are most similar to each, in order.

    Args:
        embeddings: (N, D), of any length, N above ``count``.
        count: of neighbours.
    """
    unit = unit_length(embeddings.cpu().float())
    found = []
    for rows in torch.split(torch.arange(len(unit)), _ROWS_AT_ONCE):
        similarities = unit[rows] @ unit.T
        similarities[torch.arange(len(rows)), rows] = -torch.inf
        found.append(similarities.topk(count, dim=1).indices)
    return torch.cat(found)


def _compare_orders(exact: Tensor, own: Tensor, groups: Tensor) -> tuple[float, float, float]:
    """Return the shares of equal nearest and of common ten nearest images, and the correlation.

    Args:
        exact: the teacher's embeddings, of unit length.
        own: the student's.
        groups: (N,); images of one group are not compared with each other.
    """
    others = len(exact) - int(torch.unique(groups, return_counts=True)[1].max())
    count = min(NEAREST, others)
    ranked = torch.zeros(len(exact), dtype=torch.bool)
    ranked[torch.from_numpy(_evenly(np.arange(len(exact)), MOST_RANKED))] = True
    same, common, correlations = [], [], []
    for rows in torch.split(torch.arange(len(exact)), _ROWS_AT_ONCE):
        left_out = groups[rows, None] == groups
        similarities = [
            (one[rows] @ one.T).masked_fill(left_out, -torch.inf) for one in (exact, own)
        ]
        first, second = (one.topk(count, dim=1).indices for one in similarities)
        same.append(first[:, 0] == second[:, 0])
        common.append((first[:, :, None] == second[:, None, :]).any(2).double().mean(1))
        chosen = ranked[rows]
        if chosen.any():
            # Those left out have the lowest ranks.
            out = left_out[chosen].sum(1, keepdim=True)
            compared = (len(exact) - out).double()
            first, second = (
                (one[chosen].argsort(1).argsort(1) - out - (compared - 1) / 2).masked_fill(
                    left_out[chosen], 0
                )
                for one in similarities
            )
            variance = (compared.square() - 1).clamp_min(1) / 12
            correlations.append((first * second).sum(1) / (compared * variance)[:, 0])
    return (
        float(torch.cat(same).double().mean()),
        float(torch.cat(common).mean()),
        float(torch.cat(correlations).mean()),
    )


def _compare_tracks(exact: Tensor, own: Tensor, tracks: Tracks) -> TrackResult | None:
    """Search the first half of every track for its second half; None with fewer than two tracks."""
    halves = tracks.halves()
    if len(halves) < 2:
        return None
    queries, gallery = (
        torch.from_numpy(np.concatenate([pair[half] for pair in halves])) for half in (0, 1)
    )
    numbers = torch.from_numpy(tracks.numbers)
    found = [
        evaluate_ranking(
            one[queries], numbers[queries], torch.zeros_like(queries),
            one[gallery], numbers[gallery], torch.ones_like(gallery),
        )
        for one in (own, exact)
    ]  # fmt: skip
    return TrackResult(
        tracks=len(halves),
        mean_average_precision=found[0].mean_average_precision,
        rank1=found[0].cumulative_matching[1],
        teacher_mean_average_precision=found[1].mean_average_precision,
        teacher_rank1=found[1].cumulative_matching[1],
        pairs_seen_at_once=len(tracks.seen_at_once()),
    )


def _evenly(places: IntegerArray, most: int = MOST_OF_HALF) -> IntegerArray:
    """Return at most so many places, evenly over all."""
    if len(places) <= most:
        return places
    chosen: IntegerArray = places[np.linspace(0, len(places) - 1, most).round().astype(np.int64)]
    return chosen


def _product(first: IntegerArray, second: IntegerArray) -> IntegerArray:
    """Return all pairs of one of the first and one of the second places, shape (P, 2)."""
    return np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)

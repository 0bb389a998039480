"""Measures without identities, beside plain computations of the same."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from reid_edge.core.errors import DataError
from reid_edge.metrics import Tracks, evaluate_label_free
from reid_edge.metrics.label_free import nearest_others, spread


def embeddings(count: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def plain(
    teacher: torch.Tensor, student: torch.Tensor, groups: np.ndarray
) -> tuple[float, float, float]:
    """Compute the three measures image by image."""
    similarities = []
    for one in (teacher, student):
        unit = (one / one.norm(dim=1, keepdim=True)).double().numpy()
        similarities.append(unit @ unit.T)
    same, overlap, correlation = [], [], []
    fewest = min(int((groups != group).sum()) for group in groups)
    for row in range(len(teacher)):
        others = np.flatnonzero(groups != groups[row])
        first, second = (matrix[row, others] for matrix in similarities)
        nearest = [others[np.argsort(-values)][: min(10, fewest)] for values in (first, second)]
        same.append(nearest[0][0] == nearest[1][0])
        overlap.append(len(set(nearest[0]) & set(nearest[1])) / len(nearest[0]))
        correlation.append(spearmanr(first, second).statistic)
    return float(np.mean(same)), float(np.mean(overlap)), float(np.mean(correlation))


def test_measures_are_those_of_a_plain_computation() -> None:
    teacher = embeddings(40)
    student = teacher + 0.5 * embeddings(40, seed=1)
    found = evaluate_label_free(teacher, 3 * student)
    expected = plain(teacher, student, np.arange(40))
    assert (found.same_nearest, found.nearest_overlap) == pytest.approx(expected[:2])
    assert found.rank_correlation == pytest.approx(expected[2])
    cosines = torch.cosine_similarity(teacher, student)
    assert found.mean_cosine == pytest.approx(float(cosines.mean()), abs=1e-6)
    assert found.lowest_cosine == pytest.approx(float(cosines.min()), abs=1e-6)
    assert (found.images, found.tracks) == (40, None)


def test_images_of_one_track_are_not_compared() -> None:
    numbers = np.repeat(np.arange(8), [3, 1, 5, 7, 2, 6, 4, 4])
    teacher = embeddings(8, seed=3)[torch.from_numpy(numbers)] + 0.1 * embeddings(32)
    student = teacher + 0.3 * embeddings(32, seed=1)
    tracks = Tracks(numbers, np.ones_like(numbers))
    found = evaluate_label_free(teacher, student, tracks)
    expected = plain(teacher, student, numbers)
    assert (found.same_nearest, found.nearest_overlap) == pytest.approx(expected[:2])
    assert found.rank_correlation == pytest.approx(expected[2])
    # Beside all others, the nearest are mostly of the own track.
    assert evaluate_label_free(teacher, student).nearest_overlap > found.nearest_overlap


def test_a_teacher_is_like_itself_and_unlike_noise() -> None:
    teacher = embeddings(300)
    itself = evaluate_label_free(teacher, teacher)
    assert (itself.same_nearest, itself.nearest_overlap) == (1, 1)
    assert itself.rank_correlation == pytest.approx(1)
    noise = evaluate_label_free(teacher, embeddings(300, seed=9))
    assert noise.nearest_overlap < 0.1
    assert abs(noise.rank_correlation) < 0.05


def test_sizes_may_differ() -> None:
    teacher = embeddings(30, 8)
    wider = evaluate_label_free(teacher, torch.cat((teacher, torch.zeros(30, 4)), dim=1))
    assert (wider.mean_cosine, wider.lowest_cosine) == (None, None)
    assert wider.nearest_overlap == 1


def test_halves_of_tracks_find_each_other() -> None:
    numbers = np.repeat(np.arange(5), 4)
    frames = np.tile([3, 1, 2, 0], 5)
    tracks = Tracks(numbers, np.ones_like(numbers), frames)
    halves = tracks.halves()
    assert [place.tolist() for place in halves[1]] == [[7, 5], [6, 4]]
    clear = torch.eye(5)[torch.from_numpy(numbers)] + 0.01 * embeddings(20, 5)
    found = evaluate_label_free(clear, embeddings(20, 5, seed=2), tracks).tracks
    assert found is not None
    assert found.tracks == 5
    assert (found.teacher_mean_average_precision, found.teacher_rank1) == (1, 1)
    assert found.mean_average_precision < 0.8


def test_tracks_that_are_seen_at_once() -> None:
    numbers = np.array([0, 0, 1, 1, 2, 2, 3])
    cameras = np.array([1, 1, 1, 1, 2, 2, 1])
    frames = np.array([5, 6, 6, 7, 5, 6, 9])
    tracks = Tracks(numbers, cameras, frames)
    assert tracks.seen_at_once() == [(0, 1)]
    places, same = tracks.pairs()
    assert places[same].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert places[~same].tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert Tracks(numbers, cameras).seen_at_once() == []


def test_long_tracks_are_thinned() -> None:
    numbers = np.repeat(np.arange(2), 100)
    tracks = Tracks(numbers, np.ones_like(numbers), np.tile(np.arange(100), 2))
    places, same = tracks.pairs()
    assert (int(same.sum()), int((~same).sum())) == (200, 100)
    assert int(places.max()) == 199


def test_nearest_others() -> None:
    found = nearest_others(torch.tensor([[1.0, 0], [2, 0.1], [0, 1], [0.2, 3]]), 2)
    assert found.tolist() == [[1, 3], [0, 3], [3, 1], [2, 1]]


def test_spread() -> None:
    assert spread(torch.ones(9, 4)) == pytest.approx(0, abs=1e-12)
    assert spread(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        (embeddings(5), embeddings(4), "expected .* of the same three images or more"),
        (embeddings(2), embeddings(2), "three images or more"),
        (embeddings(5), embeddings(5) / 0, "student features are not finite"),
    ],
)
def test_what_cannot_be_compared(
    teacher: torch.Tensor, student: torch.Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_label_free(teacher, student)

"""The pairs that are counted are those that a naive count finds."""

from itertools import combinations

import numpy as np

from benchmarks.clusters import neighbours, pair_scores, some_of_each


def test_pairs_as_counted_one_by_one() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(-1, 5, 60)
    persons = generator.integers(0, 6, 60)
    together = same = right = 0
    for i, j in combinations(range(60), 2):
        in_one = labels[i] == labels[j] != -1
        together += in_one
        same += persons[i] == persons[j]
        right += in_one and persons[i] == persons[j]
    assert pair_scores(labels, persons) == (right / together, right / same)


def test_no_clusters_have_no_pairs() -> None:
    assert pair_scores(np.full(4, -1), np.array([0, 0, 1, 1])) == (0, 0)


def test_at_most_so_many_of_each_person() -> None:
    persons = np.array([3, 1, 3, 3, 1, 3])
    kept = some_of_each(persons, 3)
    assert sorted(persons[kept].tolist()) == [1, 1, 3, 3, 3]
    assert kept.tolist() == sorted(kept.tolist())
    assert neighbours("30,none") == [30, None]

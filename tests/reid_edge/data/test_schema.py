"""Splits that cannot be evaluated."""

from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.schema import ReidData, Sample, check_evaluable


def splits(query: list[tuple[int, int]], gallery: list[tuple[int, int]]) -> ReidData:
    """Make a data set of (person, camera) pairs."""

    def images(name: str, labels: list[tuple[int, int]]) -> tuple[Sample, ...]:
        return tuple(Sample(Path(f"{name}{i}.jpg"), *label) for i, label in enumerate(labels))

    return ReidData(Path("set"), (), images("q", query), images("g", gallery))


def test_one_match_is_enough() -> None:
    check_evaluable(splits([(1, 1), (2, 1)], [(1, 1), (2, 2)]))


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        ([], [(1, 1)], "set: the query split has no images; reid-edge prepare sets ident"),
        ([(1, 1)], [], "set: the gallery split has no images; reid-edge prepare sets"),
        ([(1, 3)], [(1, 3)], "all images have camera 3; give each camera its own number in"),
        ([(1, 1)], [(1, 1), (2, 2)], "identities of query and gallery do not meet on different"),
    ],
)
def test_no_query_can_have_a_match(
    query: list[tuple[int, int]], gallery: list[tuple[int, int]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        check_evaluable(splits(query, gallery))

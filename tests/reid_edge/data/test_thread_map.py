import threading
from collections.abc import Sequence
from typing import overload

import pytest

from reid_edge.data.thread_map import map_in_threads


class Counted(Sequence[int]):
    """Numbers from 0 that note how far they were read."""

    def __init__(self, count: int) -> None:
        self.count, self.read = count, 0

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        assert isinstance(place, slice)
        found = list(range(*place.indices(self.count)))
        self.read = max(self.read, found[-1])
        return found


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_results_are_in_order(count: int) -> None:
    assert list(map_in_threads(lambda x: x * x, range(count))) == [x * x for x in range(count)]


def test_only_some_items_are_given_out_ahead() -> None:
    items = Counted(1_000_000)
    results = map_in_threads(lambda x: x, items)
    assert [next(results) for _ in range(100)] == list(range(100))
    assert items.read < 10_000
    results.close()  # type: ignore[attr-defined]


def test_the_first_error_is_raised_and_the_threads_end() -> None:
    def fail(x: int) -> int:
        if x in (500, 501, 40_000):
            raise ValueError(str(x))
        return x

    before = threading.active_count()
    found: list[int] = []
    with pytest.raises(ValueError, match=r"^500$"):
        found.extend(map_in_threads(fail, range(100_000)))
    assert found == list(range(len(found)))
    assert len(found) > 400
    assert threading.active_count() == before

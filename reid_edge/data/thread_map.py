"""Work on many files by several threads, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A future for each item would take longer than to look at a file that is known already.
MOST_ITEMS_IN_CHUNK = 64


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Apply a function to items by several threads, and yield the results in order.

    Items are given to the threads in chunks, and only so many that no thread waits: memory does
    not grow with the number of items, and little work is left to wait for after an error.

    Args:
        function: may be called by several threads at once.
        items: what it is applied to.

    Raises:
        Exception: what the function raises, for the first item that it raises for.
    """
    # As many threads as an executor has by default.
    threads = min(32, (os.cpu_count() or 1) + 4)
    chunk = max(1, min(MOST_ITEMS_IN_CHUNK, len(items) // (4 * threads)))

    def apply(part: Sequence[Item]) -> list[Result]:
        return [function(item) for item in part]

    waiting: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(items), chunk):
                waiting.append(pool.submit(apply, items[start : start + chunk]))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

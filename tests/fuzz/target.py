"""What a fuzz target declares, and how valid files are damaged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: of the kind.
        inputs: draws inputs that can be pickled.
        run: uses an input as the product does, in an empty folder. It may return, raise a
            ``ReidError`` of one line, or what the guard of the commands turns into one line.
        known: inputs that were mishandled once; they are always run.
    """

    name: str
    inputs: SearchStrategy[Any]
    run: Callable[[Any, Path], object]
    known: Sequence[Any] = ()


Damage = tuple[str, int, bytes]


def damaged(count: int = 4) -> SearchStrategy[tuple[int, list[Damage]]]:
    """Draw a number that chooses a valid file, and up to ``count`` changes of it."""
    change = st.tuples(
        st.sampled_from(["set", "insert", "delete", "cut", "repeat"]),
        st.integers(0, 1 << 20),
        st.binary(min_size=1, max_size=8),
    )
    return st.tuples(st.integers(0, 1 << 8), st.lists(change, max_size=count))


def apply_damage(content: bytes, changes: Sequence[Damage]) -> bytes:
    """Return a file with the changes."""
    for kind, position, value in changes:
        at = position % (len(content) + 1)
        before, behind = content[:at], content[at:]
        if kind == "set":
            content = before + value + behind[len(value) :]
        elif kind == "insert":
            content = before + value + behind
        elif kind == "delete":
            content = before + behind[len(value) :]
        elif kind == "cut":
            content = before
        else:
            content = before + behind[:64] * value[0] + behind
    return content

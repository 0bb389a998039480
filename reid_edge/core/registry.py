"""Declarations by name: what can be chosen, loaded when it is used, and the nearest name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, distributions
from typing import Generic, TypeVar

from reid_edge.core.errors import ReidError
from reid_edge.core.suggestions import did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Declarations of one kind, by name, in the order in which they were registered.

    A declaration is an object, or ``"module:attribute"``, which is imported when it is asked for.
    Installed packages add declarations through the entry points of ``group``.

    Args:
        kind: what an entry is, in a message: "criterion".
        group: of entry points, such as "reid_edge.criteria".
        entries: the declarations of this project.
        error: what an unknown name raises.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        entries: Mapping[str, T | str],
        *,
        error: type[ReidError] = ReidError,
    ) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, T | str] = dict(entries)
        self._error = error

    def register(self, name: str, entry: T | str) -> None:
        """Add a declaration.

        Raises:
            ReidError: the name is taken.
        """
        if name in self:
            raise self._error(f"{self.kind} {name!r} is registered already; choose another name")
        self._entries[name] = entry

    def unregister(self, name: str) -> None:
        """Remove a declaration that was added."""
        self._entries.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._installed()

    def __iter__(self) -> Iterator[str]:
        yield from self._entries
        yield from (name for name in self._installed() if name not in self._entries)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def check(self, name: str) -> None:
        """Check that a name is known, without loading its declaration.

        Raises:
            ReidError: it is unknown; the message names the nearest one and all others.
        """
        if name in self._entries or name in self:
            return
        hint = did_you_mean(str(name), self)
        raise self._error(f"unknown {self.kind} {name!r}: {hint}known are {', '.join(self)}")

    def load(self, name: str) -> T:
        """Return a declaration.

        Raises:
            ReidError: the name is unknown, or its module cannot be imported.
        """
        self.check(name)
        entry = self._entries.get(name) or self._installed()[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            try:
                loaded: T = getattr(import_module(module), attribute)
            except (ImportError, AttributeError) as error:
                raise self._error(
                    f"{self.kind} {name!r}: cannot import {entry} ({error}); check its registration"
                ) from error
        else:
            loaded = entry
        declared = getattr(loaded, "name", name)
        if declared != name:
            raise self._error(
                f"{self.kind} {name!r} calls itself {declared!r}; register it by that name"
            )
        return loaded

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield every declaration with its name; all of them are loaded."""
        for name in self:
            yield name, self.load(name)

    def _installed(self) -> dict[str, str]:
        return {
            point.name: point.value for point in installed_points() if point.group == self.group
        }


@cache
def installed_points() -> tuple[EntryPoint, ...]:
    """Return the entry points of all installed packages; finding them takes 10 ms and more.

    Of a package that is installed twice, that which Python imports comes last.
    """
    found = reversed(list(distributions()))
    return tuple(point for package in found for point in package.entry_points)

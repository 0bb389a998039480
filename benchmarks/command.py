"""What the benchmarks' command lines share."""

from __future__ import annotations

import json
import logging
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.dependencies import describe_changes
from reid_edge.cli.guard import Parser
from reid_edge.core.errors import PipelineError

# A child of the pipeline's, so that it writes where that one does.
logger = logging.getLogger("pipeline.benchmarks")


def make_parser(docstring: str | None) -> Parser:
    """Return a parser that says what the first line of a module's docstring says."""
    return Parser(description=(docstring or "").partition("\n")[0])


def listed(what: str, known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what reads comma-separated names of known things.

    Args:
        what: a thing is called.
        known: their names.
    """

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ArgumentTypeError(f"no {what} {unknown[0]!r}; there are {', '.join(known)}")
        return names

    return read


def whole_numbers(text: str) -> list[int]:
    """Read comma-separated whole numbers."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ArgumentTypeError(f"expected whole numbers such as 0,1,2, found {text!r}")
    return [int(part) for part in parts]


def decimal_numbers(text: str) -> list[float]:
    """Read comma-separated numbers."""
    return [float(part) for part in text.split(",")]


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number that is not below ``least``."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise ArgumentTypeError(f"expected a whole number from {least} up, found {text!r}")
        return int(text)

    return read


def size(text: str) -> tuple[int, int]:
    """Read ``height,width``."""
    numbers = whole_numbers(text)
    if len(numbers) != 2 or 0 in numbers:
        raise ArgumentTypeError(f"expected height,width such as 128,64, found {text!r}")
    return numbers[0], numbers[1]


def is_there(path: Path, settings: Mapping[str, Any]) -> bool:
    """Tell whether a result is there; one that does not name its ``settings`` counts.

    Raises:
        PipelineError: it was made with other settings.
    """
    if not path.exists():
        return False
    former = json.loads(path.read_text()).get("settings")
    changes = [] if former is None else describe_changes(former, settings)
    if changes:
        raise PipelineError(
            f"{path}: made with other settings ({'; '.join(changes)}); choose another --output, or "
            "move it away"
        )
    return True

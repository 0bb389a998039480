"""The settings of a run, and where it ran."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipeline.config import Config

PROGRAMS = ("run_pipeline.py", "reid-edge")


@dataclass(frozen=True)
class Setting:
    """A setting of a run.

    Attributes:
        key: full name.
        value: as JSON.
        default: what it is if nobody sets it, as JSON.
    """

    key: str
    value: str
    default: str

    @property
    def differs(self) -> bool:
        """Return whether it is not the default."""
        return self.value != self.default


def settings_of(config: Config) -> list[Setting]:
    """Return all settings of a run beside their defaults, in order."""
    defaults = dict(_flat(type(config)().model_dump(mode="json")))
    return [
        Setting(key, value, defaults.get(key, "not set"))
        for key, value in _flat(config.model_dump(mode="json"))
    ]


def command_line() -> str:
    """Return the command that this process was started with, or nothing if it is another one."""
    program = Path(sys.argv[0])
    if program.name not in PROGRAMS:
        return ""
    first = ["python", program.name] if program.suffix == ".py" else [program.name]
    return shlex.join([*first, *sys.argv[1:]])


def _flat(values: dict[str, JsonValue], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value)

"""The settings of a run, and where it ran."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from pipeline.config import Config

# How the description of a setting says what no value means.
NONE_MEANS = re.compile(r"\bnone: ([^;]+)")
PROGRAMS = ("run_pipeline.py", "reid-edge")


@dataclass(frozen=True)
class Setting:
    """A setting of a run.

    Attributes:
        key: full name.
        value: as JSON, or none and what that means.
        default: what it is if nobody sets it, likewise.
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
    return list(_settings(config, type(config)()))


def command_line() -> str:
    """Return the command that this process was started with, or nothing if it is another one."""
    program = Path(sys.argv[0])
    if program.name not in PROGRAMS:
        return ""
    first = ["python", program.name] if program.suffix == ".py" else [program.name]
    return shlex.join([*first, *sys.argv[1:]])


def _settings(section: BaseModel, defaults: BaseModel, above: str = "") -> Iterator[Setting]:
    for name, field in type(section).model_fields.items():
        value, default = getattr(section, name), getattr(defaults, name)
        if field.exclude:
            continue
        if isinstance(value, BaseModel) and type(value) is type(default):
            yield from _settings(value, default, f"{above}{name}.")
        else:
            shown = (_shown(one, field.description or "") for one in (value, default))
            yield Setting(f"{above}{name}", *shown)


def _shown(value: object, description: str) -> str:
    """Return a value as JSON; of none, what the description says that it means."""
    if value is None:
        meaning = NONE_MEANS.search(description)
        return f"none ({meaning[1]})" if meaning else "none"
    return json.dumps(to_jsonable_python(value, exclude_none=True))

"""The settings of a sweep: what is varied, on what, and what is compared."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.settings_io import load_config, parse_yaml
from pipeline.shipped_configs import find_config
from reid_edge.core.errors import PipelineError
from reid_edge.core.suggestions import nearest_name

Value = bool | int | float | str | None

MOST_COMBINATIONS = 10_000
MOST_CHECKED = 100  # combinations; each takes 0.1 seconds


class Range(BaseModel):
    """Numbers between two bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: int | float = Field(description="the least value")
    high: int | float = Field(description="the largest value")
    log: bool = Field(False, description="draw the logarithm evenly")
    step: int | float | None = Field(None, gt=0, description="distance of values; none: any value")

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(end, int) for end in (self.low, self.high, self.step or 1))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0 and no step")
        return self


class SweepSettings(BaseModel):
    """A sweep: trials are runs of one configuration with other values of some settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    config: str = Field(
        "quickstart", description="configuration of all trials: a YAML file or a shipped name"
    )
    folder: Path = Field(Path("runs/sweep"), description="folder of the study and its runs")
    stages: tuple[str, ...] | None = Field(
        None, description="stages of every trial; none: those of the configuration"
    )
    settings: dict[str, Any] = Field({}, description="settings of all trials by full name")
    parameters: dict[str, list[Value] | Range] = Field(
        min_length=1,
        description="what is varied, by full name: a list of values or {low, high, log, step}",
    )
    sampler: Literal["grid", "random", "tpe"] = Field(
        "grid", description="grid: every combination of the lists; random; or tpe"
    )
    trials: int | None = Field(
        None, ge=1, description="number of trials; none: with sampler grid all combinations"
    )
    measure: Literal["mAP", "rank1", "rank5", "rank10", "EER"] = Field(
        "mAP", description="what is compared, of query and gallery; of EER, less is better"
    )
    stage: str | None = Field(
        None, description="stage whose model is measured; none: the last one that makes a model"
    )
    seed: int = Field(0, ge=0, description="seed of the sampler")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, choices in self.parameters.items():
            if isinstance(choices, list) and len(set(map(repr, choices))) < len(choices):
                raise ValueError(f"{name} has a value twice")
            if not choices:
                raise ValueError(f"{name} has no values")
            if name in self.settings:
                raise ValueError(f"{name} is varied, and is in settings too")
        if self.sampler == "grid":
            ranges = [name for name, one in self.parameters.items() if isinstance(one, Range)]
            if ranges:
                raise ValueError(f"{ranges[0]} is a range; list its values, or take sampler tpe")
            if self.combinations > MOST_COMBINATIONS:
                raise ValueError(f"{self.combinations} combinations; at most {MOST_COMBINATIONS}")
        elif self.trials is None:
            raise ValueError(f"sampler {self.sampler} needs trials, a number")
        return self

    @property
    def combinations(self) -> int:
        """Return the number of combinations of the lists."""
        return math.prod(len(one) for one in self.parameters.values() if isinstance(one, list))

    @property
    def count(self) -> int:
        """Return the number of trials."""
        if self.sampler != "grid":
            assert self.trials is not None
            return self.trials
        return min(self.trials or self.combinations, self.combinations)

    def grid(self) -> list[dict[str, Value]]:
        """Return the combinations of the lists, the last parameter changing first."""
        lists = [one for one in self.parameters.values() if isinstance(one, list)]
        return [
            dict(zip(self.parameters, values, strict=True)) for values in itertools.product(*lists)
        ]


def read_sweep(path: Path, given: Mapping[str, Any]) -> SweepSettings:
    """Read the YAML file of a sweep and check every setting that its trials will have.

    Args:
        path: the file, or the name of one in ``configs/``.
        given: settings of all trials from the command line, by full name.

    Raises:
        PipelineError: the file, a key or a value is wrong; the message names it.
    """
    path = find_config(path)
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PipelineError(f"{path}: cannot be read as YAML; check indentation and colons") from (
            error
        )
    if not isinstance(content, dict) or "parameters" not in content:
        raise PipelineError(
            f"{path}: no sweep; expected a key 'parameters' with the settings to vary, as in "
            "configs/sweep.yaml"
        )
    if given and isinstance(content.get("settings", {}), dict):
        content["settings"] = {**content.get("settings", {}), **given}
    try:
        sweep = SweepSettings.model_validate(content)
    except ValidationError as error:
        errors = error.errors()
        # A wrong range is no list either.
        first = next((one for one in errors if one["type"] != "list_type"), errors[0])
        key = ".".join(str(part) for part in first["loc"][:2]) or "parameters"
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[0].lower() + reason[1:]
        if first["type"] in ("model_type", "dict_type"):
            what = "settings by full name" if key == "settings" else "a list of values, or a range"
            reason = f"expected {what}, found {first['input']!r}"
        elif len(first["loc"]) > 3 and "Range" in str(first["loc"][2]):
            unknown = first["type"] == "extra_forbidden"
            end = first["loc"][-1]
            reason = f"unknown key {end!r} of a range" if unknown else f"{end}: {reason}"
            reason += "; a range is {low, high}, with log or step"
        elif first["type"] == "extra_forbidden":
            names = list(SweepSettings.model_fields)
            near = nearest_name(key, names)
            hint = f"did you mean {near!r}? " if near else ""
            reason = f"unknown key; {hint}known are {', '.join(names)}"
        raise PipelineError(f"{path}: {key}: {reason}") from error
    for values in checked_values(sweep):
        config = trial_config(sweep, values)
        if sweep.stage is not None and sweep.stage not in config.stages:
            stages = ", ".join(config.stages)
            raise PipelineError(f"{path}: stage: {sweep.stage!r} is none of the stages {stages}")
    return sweep


def checked_values(sweep: SweepSettings) -> list[dict[str, Value]]:
    """Return values that every trial is like: all of a small grid, else every value by itself."""
    if sweep.sampler == "grid" and sweep.combinations <= MOST_CHECKED:
        return sweep.grid()
    ends = {
        name: choices if isinstance(choices, list) else [choices.low, choices.high]
        for name, choices in sweep.parameters.items()
    }
    first = {name: values[0] for name, values in ends.items()}
    return [{**first, name: value} for name, values in ends.items() for value in values]


def trial_config(sweep: SweepSettings, values: Mapping[str, Value]) -> Any:
    """Return the settings of a trial.

    Raises:
        PipelineError: a setting does not exist, or its value is wrong.
    """
    return load_config(
        find_config(Path(sweep.config)),
        stages=None if sweep.stages is None else ",".join(sweep.stages),
        values={**sweep.settings, **values},
    )

"""Reading settings: files, ``extends``, overrides, and errors that name the key."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import Config
from pipeline.settings.stage_names import DEFAULT_STAGES, STAGES
from pipeline.settings.target import PLAN_SUFFIX, TAG_MARK
from pipeline.shipped_configs import shipped_config
from reid_edge.core.errors import ModelError, PipelineError
from reid_edge.models.registry import ARCHITECTURES


def load_config(path: Path, overrides: Sequence[str] = (), stages: str | None = None) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, check everything.

    Args:
        path: the file; a key ``extends`` names a file beside it, or a configuration of the program,
            whose values it refines.
        overrides: such as ``train.epochs=60``; values are YAML.
        stages: comma-separated stage names, instead of the file's.

    Raises:
        PipelineError: a file, key or value is wrong; the message names it and the nearest right
            one.
    """
    content = _read(path, seen=())
    for override in overrides:
        _apply(content, override)
    if stages is not None:
        content["stages"] = [name.strip() for name in stages.split(",") if name.strip()]
    _check_stages(content.get("stages", DEFAULT_STAGES))
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_explain(error, path)) from error
    _check_architectures(config)
    return config


def write_config(config: Config) -> str:
    """Return a resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise PipelineError(f"{path}: 'extends' goes round in a circle; remove one of them")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path}: cannot read this configuration; give --config an existing YAML file"
        ) from error
    try:
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise PipelineError(
            f"{path}: not valid YAML{line}; check indentation and colons"
        ) from error
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: expected settings as 'key: value', found a single value")
    base = content.pop("extends", None)
    if base is None:
        return content
    beside = path.parent / str(base)
    found = beside if beside.exists() else shipped_config(Path(str(base))) or beside
    return _merge(_read(found, (*seen, path.resolve())), content, Config)


def _merge(
    base: dict[str, Any], refined: Mapping[str, Any], model: type[BaseModel]
) -> dict[str, Any]:
    """Refine sections key by key; a setting whose value is a mapping is replaced as a whole."""
    merged = dict(base)
    for key, value in refined.items():
        section = section_of(model, key)
        if section and isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value, section)
        else:
            merged[key] = value
    return merged


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise PipelineError(f"{override!r} is no setting; expected key.path=value")
    _check_key(key)
    if not text.strip():
        raise PipelineError(f"{key}: no value behind '='; write null to mean none")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise PipelineError(f"{key}: cannot read the value {text!r}; quote it as YAML") from error
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section[parent] = section.get(parent) or {}
        section = section[parent]
        if not isinstance(section, dict):
            raise PipelineError(f"{key}: {parent} is a single value in the file, not a section")
    section[last] = value


def setting_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield the full name of every setting."""
    for name in model.model_fields:
        section = section_of(model, name)
        if section is not None:
            yield from setting_keys(section, f"{prefix}{name}.")
        else:
            yield prefix + name


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the settings below a key, or None if it has a value of its own."""
    entry = model.model_fields.get(key)
    kind = None if entry is None else entry.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _check_key(key: str) -> None:
    known = list(setting_keys())
    if key not in known:
        raise PipelineError(f"unknown setting {key!r}{_nearest(key, known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    above = next((key for key in known if name.startswith(f"{key}.")), None)
    if above is not None:
        return f"; {above} is one value, see docs/reference/settings.md for what it may be"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        leaf = name.rpartition(".")[2]
        near = [key for key in known if key.rpartition(".")[2] == leaf][:1]
    if near:
        return f"; did you mean {near[0]!r}?"
    return "; see docs/reference/settings.md for all of them"


def _explain(error: ValidationError, path: Path) -> str:
    first = error.errors()[0]
    parts = map(str, first["loc"])
    key = ".".join(part for part in parts if not part.startswith(TAG_MARK))
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown setting {key!r}{_nearest(key, list(setting_keys()))}"
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if isinstance(first["input"], dict):  # settings that do not go together
        return f"{key}: {reason}; correct it in {path} or on the command line"
    return f"{key}: {reason}, found {first['input']!r}; correct it in {path} or on the command line"


def _check_stages(stages: Any) -> None:
    if not isinstance(stages, list | tuple) or not stages:
        raise PipelineError(f"stages: expected some of {', '.join(STAGES)}")
    for name in stages:
        if name not in STAGES:
            near = difflib.get_close_matches(str(name), STAGES, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise PipelineError(f"unknown stage {name!r}: {hint}stages are {', '.join(STAGES)}")
    order = [STAGES.index(name) for name in stages]
    if order != sorted(set(order)):
        right = [name for name in STAGES if name in stages]
        raise PipelineError(
            f"stages out of order: {','.join(stages)}; each once and in this order: "
            + ",".join(right)
        )
    if {"transfer", "prune"} <= set(stages):
        raise PipelineError(
            "stages name both transfer and prune: transfer lands at the target in one cut, nothing "
            "is left to prune; take one of them out of --stages"
        )


def _check_architectures(config: Config) -> None:
    target = config.prune.target
    is_name = isinstance(target, str) and not target.endswith(PLAN_SUFFIX)
    for key, name in (
        ("model.architecture", config.model.architecture),
        ("transfer.target", config.transfer.target),
        *([("prune.target", str(target))] if is_name else []),
    ):
        try:
            ARCHITECTURES.check(name)
        except ModelError as error:
            raise PipelineError(f"{key}: {error}") from error

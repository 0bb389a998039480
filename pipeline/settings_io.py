"""Reading settings: files, ``extends``, overrides, and errors that name the key."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config import Config, config_class
from pipeline.settings.cut_sections import TransferTuning
from pipeline.settings.section import UNKNOWN_NAME
from pipeline.settings.target import TAG_MARK
from pipeline.shipped_configs import shipped_config
from pipeline.stage import Stages
from reid_edge.core.errors import PipelineError
from reid_edge.core.suggestions import nearest_name

# Limits of a YAML document; the largest configuration has 4 levels and some 100 values.
MOST_LEVELS = 30
MOST_VALUES = 100_000
STRING, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
# Words of former keys, and those that took their place.
RENAMED = (("pictures", "images"), ("picture", "image"))


def load_config(
    path: Path,
    overrides: Sequence[str] = (),
    stages: str | None = None,
    *,
    declared: Stages | None = None,
    values: Mapping[str, Any] | None = None,
) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides, check everything.

    Args:
        path: the file; a key ``extends`` names a file beside it, or a configuration of the program,
            whose values it refines.
        overrides: such as ``train.epochs=60``; values are YAML.
        stages: comma-separated stage names, instead of the file's.
        declared: the stages that there are; by default the registered ones.
        values: settings by full name, applied after the overrides.

    Raises:
        PipelineError: a file, key or value is wrong; the message names it and the nearest right
            one.
    """
    kind = config_class(declared)
    content = _read(path, kind, seen=())
    for key, value in parse_overrides(overrides, kind).items():
        _set(content, key, value)
    for key, value in (values or {}).items():
        _check_key(key, kind)
        _set(content, key, str(value) if isinstance(value, Path) else value)
    if stages is not None:
        content["stages"] = list(split_names(stages))
    kind.declared.check_request(content.get("stages", kind.declared.default_names))
    try:
        _apply_transfer_learning(content, kind)
        return kind.model_validate(content)
    except ValidationError as error:
        raise PipelineError(_explain(error, path, kind)) from error


def split_names(text: str) -> tuple[str, ...]:
    """Return the names of a list with commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _whole_words(overrides: Sequence[str]) -> Iterator[str]:
    """Yield overrides; a value in braces that the shell has cut at its blanks is put together."""
    waiting = list(overrides)
    while waiting:
        word = waiting.pop(0)
        following = 0
        whole = word
        while _open_braces(whole) > 0 and following < len(waiting):
            whole += f" {waiting[following]}"
            following += 1
        if following and _open_braces(whole) == 0:
            del waiting[:following]
            yield whole
        else:
            yield word


def _open_braces(text: str) -> int:
    return sum(text.count(one) for one in "{[") - sum(text.count(one) for one in "}]")


def parse_overrides(overrides: Sequence[str], kind: type[Config] | None = None) -> dict[str, Any]:
    """Read ``key.path=value`` overrides, whose values are YAML; the last one of a key counts.

    Args:
        overrides: as they are written on a command line.
        kind: the settings that there are; by default those with the registered stages.

    Raises:
        PipelineError: a key is unknown, or a value cannot be read.
    """
    kind = config_class() if kind is None else kind
    found: dict[str, Any] = {}
    for override in _whole_words(overrides):
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise PipelineError(f"{override!r} is no setting; expected key.path=value")
        _check_key(key, kind)
        if not text.strip():
            raise PipelineError(f"{key}: no value behind '='; write null to mean none")
        try:
            found[key] = parse_yaml(text)
        except PipelineError as error:
            raise PipelineError(f"{key}: {error}") from error
        except (yaml.YAMLError, ValueError) as error:
            shown = text if len(text) <= 80 else f"{text[:80]}..."
            raise PipelineError(
                f"{key}: cannot read the value {shown!r}; quote it as YAML: '{key}=...'"
            ) from error
    return found


def _apply_transfer_learning(content: dict[str, Any], kind: type[Config]) -> None:
    """Replace the section ``transfer_learning`` by the settings that it stands for."""
    given = {"transfer_learning": content.pop("transfer_learning", {})}
    section = kind.model_validate(given).transfer_learning
    tuning = (content.get("transfer") or {}).get("tuning") or {}
    for key, value in section.meaning(tuning.get("epochs", TransferTuning().epochs)):
        if key == "train.pretrained" and (former := (content.get("train") or {}).get("pretrained")):
            raise PipelineError(
                f"{key}: {former} and transfer_learning.source_checkpoint both name the weights to "
                "start from; give one of them"
            )
        if key != "transfer.tuning.frozen_epochs" or "frozen_epochs" not in tuning:
            _set(content, key, value)


def write_config(config: Config) -> str:
    """Return a resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read(path: Path, kind: type[Config], seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise PipelineError(f"{path}: 'extends' goes round in a circle; remove one of them")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path}: cannot read this configuration; give an existing YAML file"
        ) from error
    try:
        content = parse_yaml(text)
    except PipelineError as error:
        raise PipelineError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        raise PipelineError(
            f"{path}: not valid YAML{line}; check indentation and colons"
        ) from error
    if content is None:
        raise PipelineError(
            f"{path}: holds no settings; write some as 'key: value', or copy it again"
        )
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: expected settings as 'key: value', found a single value")
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str) or "\0" in base or not base:
        raise PipelineError(f"{path}: extends: expected the name of a file, found {base!r}")
    beside = path.parent / base
    found = beside if beside.exists() else shipped_config(Path(base)) or beside
    return _merge(_read(found, kind, (*seen, path.resolve())), content, kind)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document.

    Raises:
        PipelineError: it is nested too deep, aliases make it too large, or a key is no text.
        yaml.YAMLError, ValueError: it is no YAML.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        size = 0 if root is None else _expanded_size(root, {}, MOST_LEVELS)
    except RecursionError as error:
        raise PipelineError(f"nested deeper than {MOST_LEVELS} levels; flatten it") from error
    if size > MOST_VALUES:
        raise PipelineError(
            f"more than {MOST_VALUES:,} values once aliases are replaced; write them out"
        )
    # The text is scanned once: that takes longer than all else.
    return None if root is None else loader.construct_document(root)


def _expanded_size(node: yaml.Node, known: dict[int, int], levels: int) -> int:
    """Return how many values a node has with its aliases replaced."""
    if levels == 0:  # an alias of a node inside itself ends here, too
        raise RecursionError
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.tag not in (STRING, MERGE):
                    raise PipelineError(
                        f"line {key.start_mark.line + 1}: the key {key.value!r} is no text; "
                        "put it in quotes if it is meant"
                    )
                children.append(value)
        known[id(node)] = 1 + sum(_expanded_size(child, known, levels - 1) for child in children)
    return known[id(node)]


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


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section[parent] = section.get(parent) or {}
        section = section[parent]
        if not isinstance(section, dict):
            raise PipelineError(f"{key}: {parent} is a single value in the file, not a section")
    section[last] = value


def _check_key(key: str, kind: type[Config]) -> None:
    known = list(setting_keys(kind))
    if key not in known:
        raise PipelineError(f"unknown setting {key!r}{_nearest(key, known)}")


def setting_keys(model: type[BaseModel] | None = None, prefix: str = "") -> Iterator[str]:
    """Yield the full name of every setting, by default of those with the registered stages."""
    model = config_class() if model is None else model
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


def _nearest(name: str, known: Sequence[str]) -> str:
    for former, now in RENAMED:
        if former in name and name.replace(former, now) in known:
            return f"; it is called {name.replace(former, now)!r} now"
    above = next((key for key in known if name.startswith(f"{key}.")), None)
    if above is not None:
        return f"; {above} is one value, see docs/reference/settings.md for what it may be"
    near = nearest_name(name, known)
    if near is not None:
        return f"; did you mean {near!r}?"
    return "; see docs/reference/settings.md for all of them"


def _explain(error: ValidationError, path: Path, kind: type[Config]) -> str:
    first = error.errors()[0]
    parts = map(str, first["loc"])
    key = ".".join(part for part in parts if not part.startswith(TAG_MARK))
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown setting {key!r}{_nearest(key, list(setting_keys(kind)))}"
    if first["type"] == UNKNOWN_NAME:
        return f"{key}: {first['msg']}"
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if isinstance(first["input"], dict):  # settings that do not go together
        return f"{key}: {reason}; correct it in {path} or on the command line"
    return f"{key}: {reason}, found {first['input']!r}; correct it in {path} or on the command line"

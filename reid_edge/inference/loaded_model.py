"""What is read out of a model file, whatever its kind, and the metadata of exported files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_edge.core.errors import CheckpointError
from reid_edge.data.images import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.inference.features import Embed

Colours = tuple[float, float, float]


@dataclass(frozen=True)
class Metadata:
    """What an exported file says of its model; every value has a default.

    Attributes:
        architecture: name, or empty if it is not noted.
        input_size: (height, width) in pixels, or None if it is not noted.
        mean: of each colour in [0, 1].
        std: of each colour in [0, 1].
        colour_order: "RGB" or "BGR".
        engine: PyTorch's int8 engine that the file was made for, or None.
    """

    architecture: str = ""
    input_size: tuple[int, int] | None = None
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD
    colour_order: str = "RGB"
    engine: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model as its file gives it.

    Attributes:
        embed: from normalised images (N, 3, H, W) to embeddings (N, D).
        metadata: what the file says of it.
        kind: of file, in a few words.
        weight_files: files beside it that hold weights, in an order that is the file's own.
    """

    embed: Embed
    metadata: Metadata
    kind: str
    weight_files: tuple[Path, ...] = ()


def parse_metadata(values: Mapping[str, Any], path: Path) -> Metadata:
    """Read the metadata of an exported file.

    Args:
        values: ``architecture``, ``input_size``, ``mean``, ``std``, ``colour_order`` and
            ``engine``, each as it is or as JSON text; whatever is missing gets its default.
        path: the file, for messages.

    Raises:
        CheckpointError: a value is not what it should be.
    """
    engine = values.get("engine")
    try:
        return Metadata(
            architecture=str(values.get("architecture", "")),
            input_size=_size(values["input_size"]) if "input_size" in values else None,
            mean=_colours(values.get("mean", IMAGENET_MEAN)),
            std=_colours(values.get("std", IMAGENET_STD)),
            colour_order=str(values.get("colour_order", "RGB")),
            engine=None if engine is None else str(engine),
        )
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: damaged metadata ({reason}); export the model again"
        ) from error


def _decoded(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _size(value: Any) -> tuple[int, int]:
    height, width = (int(side) for side in _decoded(value))
    return height, width


def _colours(value: Any) -> Colours:
    red, green, blue = (float(number) for number in _decoded(value))
    return red, green, blue

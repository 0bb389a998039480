"""What a checkpoint of this program says of its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import FORMER_KEYS, IMAGENET_MEAN, IMAGENET_STD

FORMAT_VERSION = 2

Widths = dict[str, list[int]]
"""[input, output] channels by layer."""

Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class CheckpointInfo:
    """The metadata of a checkpoint; the file holds them beside ``state_dict``.

    Attributes:
        architecture: name in the registry.
        num_classes: identities of the classifier.
        embedding_dim: size of the embedding.
        input_size: (height, width) in pixels.
        widths: [input, output] channels of the layers that differ from the architecture's.
        metrics: accuracy on query and gallery by name; empty if it was not measured.
        parent_hash: SHA-256 of the checkpoint that this one was made from, or empty.
        colour_order: of the input.
        mean: of each colour, in [0, 1].
        std: of each colour, in [0, 1].
        format_version: of the file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    architecture: str
    num_classes: Count
    embedding_dim: Count
    input_size: tuple[Count, Count]
    widths: Widths = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    parent_hash: str = ""
    colour_order: Annotated[str, Field(pattern="^(RGB|BGR)$")] = "RGB"
    mean: tuple[Number, Number, Number] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    format_version: int = FORMAT_VERSION


def parse_info(content: Mapping[str, Any], path: Path) -> CheckpointInfo:
    """Check what a file holds beside ``state_dict``.

    Args:
        content: the file without ``state_dict``.
        path: the file, for messages.

    Raises:
        CheckpointError: another format version, a key with a former name, or a value of a wrong
            type.
    """
    former = next((key for key in FORMER_KEYS if key in content), None)
    if former is not None:
        raise CheckpointError(
            f"{path}: the key {former!r} of checkpoint format 1 is {FORMER_KEYS[former]!r} since "
            "format 2; run the stage that wrote the file again, or give it as train.pretrained"
        )
    version = content["format_version"]
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {str(version)[:20]}, expected {FORMAT_VERSION}; use the "
            "version of the program that wrote it"
        )
    try:
        return TypeAdapter(CheckpointInfo).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part)[:50] for part in first["loc"])
        raise CheckpointError(
            f"{path}: damaged checkpoint ({key}: {first['msg']}); write it again"
        ) from error

"""A plan as a file: how many channels every layer has after the last iteration."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reid_edge.core.errors import PruneError
from reid_edge.core.io import write_bytes

FORMAT_VERSION: Literal[1] = 1

Count = Annotated[int, Field(ge=1)]


class PlanFile(BaseModel):
    """Widths of a compact model, and what they cost.

    Attributes:
        format_version: of the file.
        architecture: name of the full-width architecture that is cut.
        input_size: (height, width) in pixels; the operations are counted for it.
        widths: output channels after the last iteration, by layer.
        macs: multiply-accumulates of the compact model for one image.
        parameters: of the compact model, without what evaluation does not run (the classifier).
        note: how the plan was made, for a reader.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format_version: Literal[1] = FORMAT_VERSION
    architecture: Annotated[str, Field(min_length=1)]
    input_size: tuple[Count, Count]
    widths: Annotated[dict[str, Count], Field(min_length=1)]
    macs: Count
    parameters: Count
    note: str = ""


def write_plan(path: Path, plan: PlanFile) -> None:
    """Write a plan as JSON, whole or not at all."""
    write_bytes(path, (plan.model_dump_json(indent=2) + "\n").encode())


def read_plan(path: Path) -> PlanFile:
    """Read a plan.

    Raises:
        PruneError: the file is not there, is no JSON, or a key is missing, unknown or wrong; the
            message names the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path}: cannot read this plan; give an existing plan file") from error
    try:
        return PlanFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        # Layer names have dots of their own, so the parts are joined by another mark.
        key = " / ".join(str(part) for part in first["loc"])
        if not key:
            problem = (
                "no plan, expected a JSON object with format_version, architecture, widths, ..."
            )
        elif first["type"] == "extra_forbidden":
            problem = f"unknown key {key!r}, known are {', '.join(PlanFile.model_fields)}"
        elif first["type"] == "missing":
            problem = f"the key {key!r} is missing"
        else:
            reason = first["msg"][0].lower() + first["msg"][1:]
            problem = f"{key!r}: {reason}, found {first['input']!r}"
        raise PruneError(f"{path}: {problem}; correct it or make the plan again") from error

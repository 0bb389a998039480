"""What all sections of a configuration share."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from reid_edge.data.paths import expand_home


def expand(value: object) -> object:
    """Return a path as it is meant from where the command was given, anything else unchanged."""
    return expand_home(Path(value)).absolute() if isinstance(value, str) else value


FilePath = Annotated[Path, BeforeValidator(expand), PlainSerializer(str)]
Share = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

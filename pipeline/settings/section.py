"""What all sections of a configuration share."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)
from pydantic_core import PydanticCustomError

from reid_edge.core.errors import ReidError
from reid_edge.core.registry import Registry
from reid_edge.data.paths import expand_home
from reid_edge.models.registry import ARCHITECTURES

UNKNOWN_NAME = "unknown_name"


def expand(value: object) -> object:
    """Return a path as it is meant from where the command was given, anything else unchanged."""
    return expand_home(Path(value)).absolute() if isinstance(value, str) else value


def registered(name: str, registry: Registry[Any]) -> str:
    """Return a name if a registry has it; what it names is not loaded.

    Raises:
        PydanticCustomError: it has not; the message names the nearest one.
    """
    try:
        registry.check(name)
    except ReidError as error:
        raise PydanticCustomError(UNKNOWN_NAME, "{reason}", {"reason": str(error)}) from error
    return name


ArchitectureName = Annotated[str, AfterValidator(lambda name: registered(name, ARCHITECTURES))]
FilePath = Annotated[Path, BeforeValidator(expand), PlainSerializer(str)]
Share = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change, numbers are finite."""

    # Built when they are first used: a wrong key is refused without them.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

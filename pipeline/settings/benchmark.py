"""Sections ``benchmark`` and ``latency``: what is timed, and how."""

from typing import Annotated

from pydantic import Field

from pipeline.settings.base import Settings

Count = Annotated[int, Field(ge=1)]


class BenchmarkStage(Settings):
    """Stage ``benchmark``: every model file of the run, side by side."""

    rounds: int = Field(30, ge=2, description="timed calls of each file, in turn")
    batches: tuple[Count, ...] = Field((1, 8), min_length=1, description="images in a call")
    threads: tuple[Count, ...] | None = Field(
        None, min_length=1, description="threads of a call; none: 1, and all that there are"
    )


class LatencySettings(Settings):
    """The closing measurement."""

    rounds: int = Field(30, ge=2, description="timed calls of each file, in turn")
    threads: int = Field(1, ge=1, description="threads of each call")

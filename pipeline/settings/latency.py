"""Section ``latency``: how the closing measurement is timed."""

from pydantic import Field

from pipeline.settings.base import Settings


class LatencySettings(Settings):
    """The closing measurement."""

    rounds: int = Field(30, ge=2, description="timed calls of each model, in turn")
    threads: int = Field(1, ge=1, description="threads of each call")

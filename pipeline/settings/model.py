"""Section ``model``: the full-width model."""

from pydantic import Field

from pipeline.settings.section import ArchitectureName, Settings


class ModelSettings(Settings):
    """The full-width model."""

    architecture: ArchitectureName = Field("osnet_x1_0", description="architecture before pruning")
    embedding_dim: int = Field(512, ge=8, description="size of the embedding")

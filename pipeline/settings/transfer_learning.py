"""Section ``transfer_learning``: the words of other projects for settings of train and transfer."""

from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from pipeline.settings.section import FilePath, Settings

GROUPS = ("conv1", "conv2", "conv3", "conv4", "conv5")  # of OSNet


class TransferLearningSettings(Settings):
    """A trained full-width model becomes a narrow one; read once, and stored as what it sets."""

    enabled: bool = Field(
        False,
        description="start from transfer_learning.source_checkpoint. Sets train.pretrained and "
        "train.epochs=0; the section is not stored in the run's config.yaml, these settings are",
    )
    source_checkpoint: FilePath | None = Field(
        None, description="weights of the full-width model (train.pretrained)"
    )
    freeze_layers: tuple[str, ...] = Field(
        (),
        description="layers that do not learn after the cut (transfer.tuning.frozen_layers): names "
        "or patterns, or how many of OSNet's conv1 to conv5. Without "
        "transfer.tuning.frozen_epochs they are frozen in all epochs",
    )

    @field_validator("freeze_layers", mode="before")
    @classmethod
    def _name_layers(cls, value: object) -> object:
        if not isinstance(value, int) or isinstance(value, bool):
            return value
        if not 0 <= value <= len(GROUPS):
            raise ValueError(f"expected names of layers, or a number up to {len(GROUPS)}")
        return GROUPS[:value]

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.enabled and self.source_checkpoint is None:
            raise ValueError("enabled needs source_checkpoint, a file with trained weights")
        return self

    def meaning(self, epochs: int) -> Iterator[tuple[str, Any]]:
        """Yield the settings that these stand for.

        Args:
            epochs: of the training after the cut.

        Yields:
            A full name, its value, and for ``frozen_epochs`` the value if none is given.
        """
        if not self.enabled:
            return
        yield "train.pretrained", str(self.source_checkpoint)
        yield "train.epochs", 0
        if self.freeze_layers:
            yield "transfer.tuning.frozen_layers", list(self.freeze_layers)
            yield "transfer.tuning.frozen_epochs", epochs

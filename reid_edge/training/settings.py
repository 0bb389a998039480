"""How a model is trained."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from reid_edge.core.devices import Precision
from reid_edge.core.errors import TrainingError
from reid_edge.data.augmentation import AugmentationSettings

MetricFormat = Literal["csv", "tensorboard"]
LearningRateRule = Literal["none", "linear", "sqrt"]
Strategy = Literal["auto", "ddp", "ddp_find_unused_parameters_true"]


class LossSettings(BaseModel):
    """Weights of the supervised losses."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cross_entropy: float = Field(1.0, ge=0, description="weight of the cross-entropy loss")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")
    triplet: float = Field(1.0, ge=0, description="weight of the batch-hard triplet loss")
    triplet_margin: float = Field(0.3, ge=0, description="margin of the triplet loss")
    triplet_normalised: bool = Field(
        False,
        description="measure triplet distances between embeddings of unit length; steadier from "
        "random weights, torchreid does not",
    )
    circle: float = Field(
        0.0, ge=0, description="weight of the circle loss; needs cross_entropy too"
    )
    circle_margin: float = Field(
        0.25,
        ge=0,
        le=1,
        description="relaxation m of the circle loss; in the paper 0.25 for persons and faces",
    )
    circle_gamma: float = Field(
        128.0,
        gt=0,
        description="scale of the circle loss; in the paper 128 for persons, 256 for faces",
    )

    @property
    def total_weight(self) -> float:
        """Return the sum of the weights; 0 if there is nothing to learn from."""
        return self.cross_entropy + self.triplet + self.circle

    @property
    def compares_pairs(self) -> bool:
        """Return whether a batch has to have several images of a person."""
        return bool(self.triplet or self.circle)


class DistillationSettings(BaseModel):
    """Weights of the losses between student and teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    embedding: float = Field(
        2.0, ge=0, description="weight of the relative squared error of the embedding"
    )
    cosine: float = Field(5.0, ge=0, description="weight of 1 - cosine to the teacher's embedding")
    similarity: float = Field(
        0.0, ge=0, description="weight of the squared error of the batch's similarity matrix"
    )
    logits: float = Field(
        0.0, ge=0, description="weight of the divergence from the teacher's class probabilities"
    )
    hints: float = Field(
        1.0,
        ge=0,
        description="weight of the hints: stage outputs at the kept channels, if these are known",
    )


class DdpSettings(BaseModel):
    """What matters where several processes train together (DDP)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gather_embeddings: bool = Field(
        True,
        description="triplet and circle losses, and the teacher's terms, see the embeddings of all "
        "processes: the update is that of one process with all their images",
    )
    sync_batchnorm: bool = Field(
        False,
        description="BatchNorm statistics of all processes' images; false: each process normalises "
        "by its own, and those of the first are kept",
    )
    learning_rate_rule: LearningRateRule = Field(
        "none",
        description="peak learning rates as they are (none), times the number of processes "
        "(linear), or times its square root (sqrt)",
    )


class RefinedSettings(BaseModel):
    """Settings whose sections are completed with their own defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refine_defaults(cls, content: Any) -> Any:
        """Complete a section with the defaults of these settings, not with those of its class."""
        if not isinstance(content, Mapping):
            return content
        refined = dict(content)
        for name, field in cls.model_fields.items():
            value = content.get(name)
            if isinstance(value, Mapping) and isinstance(field.default, BaseModel):
                refined[name] = {**field.default.model_dump(), **value}
        return refined


class TrainingSettings(RefinedSettings):
    """One training: batches, losses, optimiser, schedule."""

    epochs: int = Field(60, ge=0, description="epochs; 0 leaves the weights as they are")
    identities_per_batch: int = Field(16, ge=2, description="P, identities in a batch")
    images_per_identity: int = Field(
        4,
        ge=1,
        description="K, images of each identity; 1 without identities: batches of random images",
    )
    optimizer: Literal["adamw", "adam", "amsgrad", "sgd"] = Field(
        "adamw", description="adamw, adam, amsgrad (Adam with amsgrad) or sgd (momentum 0.9)"
    )
    fused_optimizer: bool = Field(
        False,
        description="update all weights in one kernel instead of tensor by tensor; faster, and the "
        "last bits differ",
    )
    learning_rate: float = Field(3.5e-4, gt=0, description="peak learning rate")
    head_learning_rate: float | None = Field(
        None,
        gt=0,
        description="peak learning rate of the layers behind the pooling (classifier, embedding "
        "layer, BNNeck); none: learning_rate",
    )
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs of linear warm-up, at most half of all"
    )
    schedule: Literal["cosine", "step"] = Field(
        "cosine", description="after warm-up: cosine (down to zero) or step (at the milestones)"
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="with schedule step: epochs after which the rate is multiplied by gamma"
    )
    gamma: float = Field(
        0.1, gt=0, lt=1, description="with schedule step: factor of the rate at each milestone"
    )
    frozen_layers: tuple[str, ...] = Field(
        (),
        description="layers that do not learn during frozen_epochs, by name or pattern "
        "(conv[1-5], layer*), with everything in them; BatchNorm statistics do not change either",
    )
    frozen_epochs: int = Field(
        0, ge=0, description="number of first epochs in which frozen_layers do not learn"
    )
    gradient_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0: no limit")
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of the moving average of the weights, such as 0.999; the average is "
        "evaluated and kept; 0: no average",
    )
    validate_every: int = Field(
        1, ge=1, description="epochs between validations, if data.validation_share is not 0"
    )
    patience: int = Field(
        0,
        ge=0,
        description="training stops after so many validations without a better mAP; 0: never",
    )
    precision: Precision = Field(
        "32-true",
        description="32-true, bf16-mixed (CPU and GPU) or 16-mixed (GPU only, scales the loss)",
    )
    losses: LossSettings = LossSettings()
    augmentation: AugmentationSettings = AugmentationSettings()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings of later versions at their defaults: finished stages stay valid."""
        content: dict[str, Any] = dump(self)
        if not self.fused_optimizer:
            content.pop("fused_optimizer", None)
        return content

    @field_validator("milestones")
    @classmethod
    def _check_order(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError("must rise from one to the next")
        return milestones

    @model_validator(mode="after")
    def _check_companions(self) -> Self:
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule step needs milestones, such as [40, 60]")
        if self.frozen_epochs and not self.frozen_layers:
            raise ValueError("frozen_epochs needs frozen_layers, such as [conv1, conv2]")
        if self.fused_optimizer and self.gradient_clip and self.precision != "32-true":
            # PyTorch's fused optimizers scale gradients themselves, after they are clipped.
            raise ValueError(
                f"fused_optimizer does not go with gradient_clip in precision {self.precision}; "
                "set one of them off"
            )
        return self

    def check_pairs(self, training: str) -> None:
        """Check that batches have what the losses compare.

        Args:
            training: its name, for the message.

        Raises:
            TrainingError: they have one image of each person, and a loss compares two.
        """
        if self.epochs and self.images_per_identity == 1 and self.losses.compares_pairs:
            raise TrainingError(
                f"{training}.images_per_identity: 1 leaves no two images of a person in a batch, "
                "and the triplet and the circle loss compare them; give 2 or more, or both a "
                "weight of 0"
            )

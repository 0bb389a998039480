"""How a model is trained."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from reid.data.transforms import AugmentationSettings


class LossSettings(BaseModel):
    """Weights of the supervised losses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cross_entropy: float = Field(1.0, ge=0, description="weight of the cross entropy")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="label smoothing")
    triplet: float = Field(1.0, ge=0, description="weight of the batch-hard triplet loss")
    triplet_margin: float = Field(0.3, ge=0, description="margin of the triplet loss")
    triplet_normalised: bool = Field(
        False,
        description="triplet distances between embeddings of unit length; steadier from random "
        "weights, torchreid does without",
    )


class DistillationSettings(BaseModel):
    """Weights of what is asked of the student besides the supervised losses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        description="weight of the stage hints at the kept channels, where these are known",
    )


class TrainingSettings(BaseModel):
    """One training: batches, losses, optimiser, schedule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(60, ge=0, description="epochs; 0 leaves the weights as they are")
    identities_per_batch: int = Field(16, ge=2, description="P, identities in a batch")
    pictures_per_identity: int = Field(4, ge=2, description="K, pictures of each of them")
    optimizer: Literal["adamw", "adam", "amsgrad", "sgd"] = Field(
        "adamw", description="adamw, adam, amsgrad (Adam with amsgrad) or sgd (momentum 0.9)"
    )
    learning_rate: float = Field(3.5e-4, gt=0, description="peak learning rate")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    gradient_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0 for none")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Lightning's precision"
    )
    losses: LossSettings = LossSettings()
    augmentation: AugmentationSettings = AugmentationSettings()

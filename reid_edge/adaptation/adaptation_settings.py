"""How a model is adapted to unlabelled images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reid_edge.core.devices import Precision
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.training.settings import LossSettings, RefinedSettings, TrainingSettings


class AdaptationSettings(RefinedSettings):
    """Clusters, memory and training of an adaptation; the defaults are those of the literature."""

    epochs: int = Field(
        10, ge=1, description="epochs; the images are clustered anew before each of them"
    )
    steps: int | None = Field(
        None, ge=1, description="batches in an epoch; none: as many as the images fill"
    )
    clusters_per_batch: int = Field(16, ge=2, description="P, clusters in a batch")
    images_per_cluster: int = Field(
        4, ge=2, description="K, images of each cluster, from different cameras where it has some"
    )
    eps: float = Field(
        0.5, gt=0, lt=1, description="DBSCAN: largest Jaccard distance of neighbours, 0.4 to 0.6"
    )
    min_samples: int = Field(4, ge=2, description="DBSCAN: neighbours that begin a cluster")
    k1: int | None = Field(
        None,
        ge=1,
        description="neighbours that must be mutual; none: 30, then twice the mean size of the "
        "clusters, as long as that is less, 8 at least",
    )
    k2: int = Field(6, ge=1, description="nearest images that a description is averaged over")
    by_camera: bool = Field(
        True,
        description="take the mean of each camera off the embeddings before they are clustered, "
        "where cameras are known",
    )
    images_of_track: int = Field(
        8, ge=1, description="images of a track that are clustered; the others follow them"
    )
    temperature: float = Field(0.05, gt=0, description="temperature of the loss")
    momentum: float = Field(
        0.1, ge=0, lt=1, description="share of a cluster's old centre when an image moves it"
    )
    optimizer: Literal["adamw", "adam", "amsgrad", "sgd"] = Field(
        "adam", description="adamw, adam, amsgrad or sgd (momentum 0.9)"
    )
    learning_rate: float = Field(3.5e-4, gt=0, description="peak learning rate")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up")
    gradient_clip: float = Field(0.0, ge=0, description="largest gradient norm; 0: no limit")
    precision: Precision = Field(
        "32-true",
        description="32-true, bf16-mixed (CPU and GPU) or 16-mixed (GPU only); of the training "
        "and of the embeddings that are clustered",
    )
    augmentation: AugmentationSettings = AugmentationSettings(crop_padding=10, erasing=0.5)

    @property
    def batch(self) -> int:
        """Return the number of images in a batch."""
        return self.clusters_per_batch * self.images_per_cluster

    def training(self) -> TrainingSettings:
        """Return the optimiser and the schedule as settings of a training."""
        return TrainingSettings(
            epochs=self.epochs,
            identities_per_batch=self.clusters_per_batch,
            images_per_identity=self.images_per_cluster,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            warmup_epochs=self.warmup_epochs,
            gradient_clip=self.gradient_clip,
            precision=self.precision,
            losses=LossSettings(cross_entropy=0.0, triplet=0.0),
            augmentation=self.augmentation,
        )

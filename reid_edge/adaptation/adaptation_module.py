"""The training step of an adaptation, for Lightning."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from reid_edge.adaptation.cluster_memory import ClusterMemory
from reid_edge.models.architecture import NECK
from reid_edge.training.distillation import OutputRecorder
from reid_edge.training.module import apply_learning_rates, make_optimizer, make_schedule
from reid_edge.training.settings import TrainingSettings


class AdaptationModule(lightning.LightningModule):
    """Train a model against a memory of cluster centres.

    Args:
        model: returns (logits, embeddings) in training mode.
        settings: optimiser and schedule.
        steps_per_epoch: batches in an epoch, for the schedule.
        memory: of the clusters.
        labels: cluster of each image (images,), int64.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        *,
        steps_per_epoch: int,
        memory: ClusterMemory,
        labels: Tensor,
    ) -> None:
        super().__init__()
        self.model = model
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._memory = memory
        self._labels = labels
        self.terms: dict[str, Tensor] = {}

    def on_train_start(self) -> None:
        """Apply a learning rate that was changed after a divergence."""
        for config in self.trainer.lr_scheduler_configs:
            apply_learning_rates(config.scheduler, self._settings)

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """Return the contrastive loss of images (B, 3, H, W) with their indices (B,)."""
        images, indices = batch
        clusters = self._labels.to(indices.device)[indices]
        images = images.contiguous(memory_format=torch.channels_last)
        # A model with a BNNeck returns the input of the neck in training mode; users compare its
        # output.
        neck = [NECK] if isinstance(getattr(self.model, NECK, None), nn.Module) else []
        outputs = OutputRecorder(self.model, neck)
        try:
            _, embeddings = self.model(images)
            embeddings = outputs.outputs.get(NECK, embeddings)
        finally:
            outputs.detach()
        loss = self._memory.loss(embeddings, clusters)
        self._memory.update(embeddings, clusters)
        self.terms = {"contrast": loss.detach()}
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Make the optimiser and a schedule that steps with every batch."""
        optimizer = make_optimizer(self.model, self._settings)
        schedule = LambdaLR(optimizer, make_schedule(self._settings, self._steps_per_epoch))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

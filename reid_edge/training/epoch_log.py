"""A log line for every epoch, and more lines within long epochs."""

import logging
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from reid_edge.core.seeding import derive_seed
from reid_edge.training.validation import METRIC

SECONDS_BETWEEN_LINES = 30.0

logger = logging.getLogger(__name__)


class EpochLog(Callback):
    """Log loss, learning rate and time left of every epoch, and seed its random draws.

    Args:
        label: name of the training.
        seed: of random draws during the training.
        epochs: of the whole training; none: those of the trainer.
    """

    def __init__(self, label: str, seed: int, *, epochs: int | None = None) -> None:
        self._label = label
        self._epochs = epochs
        self._seed = seed
        self._started = 0.0
        self._last_line = 0.0

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock, and seed the epoch's random draws as a function of its number."""
        del pl_module
        self._started = self._last_line = time.monotonic()
        torch.manual_seed(derive_seed(self._seed, "fly", trainer.current_epoch))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a line if the last one is some time ago."""
        del pl_module, outputs, batch
        now = time.monotonic()
        done, batches = batch_idx + 1, int(trainer.num_training_batches)
        if done == batches or now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        epoch, epochs = trainer.current_epoch + 1, self._epochs or trainer.max_epochs or 0
        left = (now - self._started) / done * (batches - done + batches * (epochs - epoch))
        logger.info(
            "%s: epoch %d/%d, batch %d/%d, %.0f s left",
            self._label, epoch, epochs, done, batches, left,
        )  # fmt: skip

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write a line with the validation's mAP."""
        del pl_module
        value = 100 * float(trainer.callback_metrics[METRIC])
        logger.info(
            "%s: epoch %d/%d, mAP %.1f on the validation identities",
            self._label, trainer.current_epoch + 1, self._epochs or trainer.max_epochs, value,
        )  # fmt: skip

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the line of the epoch."""
        del pl_module
        seconds = time.monotonic() - self._started
        epoch, epochs = trainer.current_epoch + 1, self._epochs or trainer.max_epochs or 0
        loss = float(trainer.callback_metrics["loss"])
        rates = dict.fromkeys(f"{g['lr']:.2e}" for g in trainer.optimizers[0].param_groups)
        logger.info(
            "%s: epoch %d/%d, loss %.3f, learning rate %s, %.0f s, %.0f s left",
            self._label, epoch, epochs, loss, " and ".join(rates), seconds,
            seconds * (epochs - epoch),
        )  # fmt: skip

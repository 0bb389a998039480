"""Tell the outside how far a training is."""

from collections.abc import Callable
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from reid_edge.core.progress import StartProgress


class AfterEpoch(Callback):
    """Call a function when an epoch has ended, such as one that shows the progress.

    Args:
        call: takes nothing; what it returns is not used.
    """

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Call the function."""
        del trainer, pl_module
        self._call()


class ShowBatches(Callback):
    """Report every batch of a training and of its validations.

    Args:
        label: name of the training.
        start: begins a piece of work.
        epochs: of the whole training; none: those of the trainer.
    """

    def __init__(self, label: str, start: StartProgress, *, epochs: int | None = None) -> None:
        self._label = label
        self._start = start
        self._all_epochs = epochs
        # Also during an epoch, the number of batches is not known before the first of them.
        self._batches = self._epochs = 1
        self._trained = start(f"{label}: training", self._count, lines=False)
        self._validated = start(f"{label}: validation", lines=False)

    def _count(self, done: int, total: int) -> str:
        del total
        epoch, batch = divmod(done - 1, self._batches)
        return f"epoch {epoch + 1} of {self._epochs}, batch {batch + 1} of {self._batches}"

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Report a batch."""
        del pl_module, outputs, batch
        self._batches = int(trainer.num_training_batches)
        self._epochs = self._all_epochs or trainer.max_epochs or 1
        done = trainer.current_epoch * self._batches + batch_idx + 1
        self._trained(done, self._epochs * self._batches)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Report a batch of the validation."""
        del pl_module, outputs, batch, dataloader_idx
        self._validated(batch_idx + 1, sum(map(int, trainer.num_val_batches)))

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """End the display, also where the training stops early."""
        del trainer, pl_module
        self._trained(1, 1)

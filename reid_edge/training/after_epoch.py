"""Call a function after every epoch of a training."""

from collections.abc import Callable

import lightning
from lightning.pytorch.callbacks import Callback


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

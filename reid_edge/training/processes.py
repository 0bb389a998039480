"""Train in several processes at once, one for each device."""

import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.queues import Queue

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from reid_edge.core.errors import worker_errors_as_own
from reid_edge.training.settings import TrainingSettings

PACKAGE = __name__.partition(".")[0]


def make_strategy(settings: TrainingSettings) -> DDPStrategy:
    """Return Lightning's strategy: a process for each device, gradients averaged at each step."""
    # DDP waits for parameters without a gradient (frozen ones, a classifier without a loss) unless
    # it searches for them, which takes time.
    unused = settings.frozen_epochs > 0 or settings.losses.cross_entropy == 0
    return DDPStrategy(start_method="spawn", find_unused_parameters=unused)


class InheritSettings(Callback):
    """Give a new process the log of its parent and a share of the parent's threads.

    Args:
        devices: processes that share the threads.
        records: queue that receives the log records, see :func:`one_log`.
    """

    def __init__(self, devices: int, records: "Queue[logging.LogRecord]") -> None:
        self._parent = multiprocessing.current_process().pid
        self._threads = max(1, torch.get_num_threads() // devices)
        self._level = logging.getLogger(PACKAGE).getEffectiveLevel()
        self._records = records

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Apply the settings; in the new process Lightning calls this before anything else."""
        del pl_module, stage
        if multiprocessing.current_process().pid == self._parent:
            return
        hush_lightning()
        torch.set_num_threads(self._threads)
        if trainer.is_global_zero:
            logger = logging.getLogger(PACKAGE)
            logger.addHandler(QueueHandler(self._records))
            logger.setLevel(self._level)


class _Forward(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        logging.getLogger(record.name).handle(record)
        return True


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Suppress Lightning's messages about itself and its advice to use more workers."""
    with warnings.catch_warnings():
        hush_lightning()
        yield


def hush_lightning() -> None:
    """Suppress them for the rest of the process."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for module in ("lightning", "torch"):
        warnings.filterwarnings("ignore", module=module)


@contextmanager
def one_log(devices: int) -> Iterator[list[Callback]]:
    """Log here what the first of several processes logs, and raise their errors here.

    Args:
        devices: processes; with one there is nothing to do.

    Yields:
        Callbacks that the trainer needs.

    Raises:
        ReidError: the error that a process ended with.
    """
    if devices == 1:
        yield []
        return
    records: Queue[logging.LogRecord] = multiprocessing.get_context("spawn").Queue()
    listener = QueueListener(records, _Forward())
    listener.start()
    try:
        with worker_errors_as_own(ProcessRaisedException):
            yield [InheritSettings(devices, records)]
    finally:
        listener.stop()
        records.close()

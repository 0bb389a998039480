"""Train in several processes at once, one for each device."""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import reduction
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessRaisedException

from reid_edge.core.errors import worker_errors_as_own
from reid_edge.core.library_warnings import is_of, log_warnings
from reid_edge.training.launchers import check_launcher
from reid_edge.training.settings import TrainingSettings

PACKAGE = __name__.partition(".")[0]
PR_SET_PDEATHSIG = 1  # of prctl(2)


def make_strategy(settings: TrainingSettings) -> DDPStrategy:
    """Return Lightning's strategy: a process for each device, gradients averaged at each step."""
    # DDP waits for parameters without a gradient (frozen ones, a classifier without a loss) unless
    # it searches for them, which takes time.
    unused = settings.frozen_epochs > 0 or settings.losses.cross_entropy == 0
    return DDPStrategy(start_method="spawn", find_unused_parameters=unused)


class InheritSettings(Callback):
    """Tie a new process to its parent: its log, its threads, its locks and its life.

    Args:
        devices: processes that share the threads.
        records: queue that receives the log records, see :func:`one_log`.
        folder: where the state is written; locks of the folders above it stay locked until the
            last process has ended.
    """

    def __init__(self, devices: int, records: "Queue[logging.LogRecord]", folder: Path) -> None:
        self._folder = folder
        self._locks: list[Any] = []
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
        die_with_parent(self._parent)
        self._locks = [lock.detach() for lock in self._locks]
        hush_lightning()
        torch.set_num_threads(self._threads)
        if trainer.is_global_zero:
            logger = logging.getLogger(PACKAGE)
            logger.addHandler(QueueHandler(self._records))
            logger.setLevel(self._level)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Let a signal end a new process at once: the parent tells the user, and state is whole."""
        del trainer, pl_module
        if multiprocessing.current_process().pid != self._parent:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """End a new process whose parent has ended."""
        del trainer, pl_module, batch, batch_idx
        if multiprocessing.current_process().pid != self._parent and os.getppid() != self._parent:
            os._exit(1)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a new process is given, the locks among it."""
        locks = [reduction.DupFd(number) for number in lock_descriptors(self._folder)]
        return self.__dict__ | {"_locks": locks}


def die_with_parent(parent: int | None) -> None:
    """Let the system kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def lock_descriptors(folder: Path) -> list[int]:
    """Return the descriptors of the lock files above a folder that this process holds (Linux)."""
    names = {str(above / "lock") for above in folder.resolve().parents}
    found = []
    for entry in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            if str(entry.readlink()) in names:
                found.append(int(entry.name))
    return found


class _Forward(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        logging.getLogger(record.name).handle(record)
        return True


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's messages about itself and its advice from the terminal."""
    with warnings.catch_warnings():
        hush_lightning()
        yield


def hush_lightning() -> None:
    """Do so for the rest of the process, or to the end of ``warnings.catch_warnings()``."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    log_warnings(is_of("lightning", "torch"))


@contextmanager
def one_log(devices: int, folder: Path) -> Iterator[list[Callback]]:
    """Log here what the first of several processes logs, and raise their errors here.

    Args:
        devices: processes; with one there is nothing to do.
        folder: where the state is written.

    Yields:
        Callbacks that the trainer needs.

    Raises:
        TrainingError: another program starts the processes, see :func:`check_launcher`.
        ReidError: the error that a process ended with.
    """
    if devices == 1:
        yield []
        return
    check_launcher(devices)
    records: Queue[logging.LogRecord] = multiprocessing.get_context("spawn").Queue()
    listener = QueueListener(records, _Forward())
    listener.start()
    try:
        with worker_errors_as_own(ProcessRaisedException):
            yield [InheritSettings(devices, records, folder)]
    finally:
        listener.stop()
        records.close()

"""Train in several processes at once, one for each device."""

import logging
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import reduction
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.multiprocessing.spawn import ProcessRaisedException

from reid_edge.core.errors import TrainingError, worker_errors_as_own
from reid_edge.core.library_warnings import is_of, log_warnings
from reid_edge.core.memory import keep_freed_memory
from reid_edge.core.parent import die_with_parent
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.launchers import check_launcher
from reid_edge.training.signs_of_life import Heartbeat, Lost, Watch
from reid_edge.training.world import JOIN, LOOPBACK, choose_interface, serve_store

PACKAGE = __name__.partition(".")[0]


def finds_unused(config: FitConfig) -> bool:
    """Return whether DDP searches for parameters without a gradient, which takes time.

    Otherwise it waits for them: for frozen ones, and for a classifier without a loss.
    """
    settings = config.settings
    if config.strategy == "auto":
        return settings.frozen_epochs > 0 or settings.losses.cross_entropy == 0
    return config.strategy == "ddp_find_unused_parameters_true"


class OneMachineDDP(DDPStrategy):
    """Lightning's strategy, with a store that listens on the loopback interface alone.

    Args:
        port: of the store, which the process holds that starts the others.
        options: of Lightning's strategy.
    """

    def __init__(self, port: int, **options: Any) -> None:
        super().__init__(start_method="spawn", **options)
        self._port = port
        self._heartbeat: Heartbeat | None = None

    def setup_distributed(self) -> None:
        """Join the other processes, and give signs of life."""
        choose_interface(None)
        store = TCPStore(LOOPBACK, self._port, is_master=False)
        self._heartbeat = Heartbeat(store.clone(), self.local_rank)
        self._heartbeat.start()
        # Lightning takes the group that is there.
        torch.distributed.init_process_group(
            self._get_process_group_backend(),
            store=PrefixStore("group", store),
            rank=self.local_rank,
            world_size=self.num_processes,
            timeout=JOIN,
        )
        super().setup_distributed()

    def teardown(self) -> None:
        """End as it should."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
        super().teardown()


@dataclass(frozen=True)
class Processes:
    """How several processes train together.

    Attributes:
        callbacks: that the trainer needs.
        port: of the store of processes that this one starts; none: they are there already.
    """

    callbacks: Sequence[Callback] = ()
    port: int | None = None

    def strategy(self, find_unused: bool) -> DDPStrategy:
        """Return Lightning's strategy: gradients are averaged at each step.

        Args:
            find_unused: search for parameters without a gradient.
        """
        if self.port is None:
            return DDPStrategy(find_unused_parameters=find_unused, timeout=JOIN)
        return OneMachineDDP(self.port, find_unused_parameters=find_unused)


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
        assert self._parent is not None, "a process that runs has an ID"
        die_with_parent(self._parent)
        self._locks = [lock.detach() for lock in self._locks]
        hush_lightning()
        keep_freed_memory()
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
def one_log(devices: int, folder: Path) -> Iterator[Processes]:
    """Log here what the first of several processes logs, and raise their errors here.

    A process that hangs is ended, and the others with it.

    Args:
        devices: processes; with one there is nothing to do.
        folder: where the state is written.

    Yields:
        What the trainer needs.

    Raises:
        TrainingError: another program starts the processes, see :func:`check_launcher`; or one
            hangs.
        ReidError: the error that a process ended with.
    """
    if devices == 1:
        yield Processes()
        return
    check_launcher(devices)
    records: Queue[logging.LogRecord] = multiprocessing.get_context("spawn").Queue()
    listener = QueueListener(records, _Forward())
    listener.start()
    store = serve_store()
    lost: list[Lost] = []

    def end_lost(found: Lost | None) -> None:
        """End it, which ends the others."""
        if found is not None:
            lost.append(found)
            with suppress(ProcessLookupError):
                os.kill(found.process, signal.SIGKILL)

    watch = Watch(store.clone(), devices, end_lost)
    watch.start()
    try:
        with worker_errors_as_own(ProcessRaisedException):
            yield Processes([InheritSettings(devices, records, folder)], store.port)
    except Exception as error:
        if lost:
            raise TrainingError(str(lost[0])) from error
        raise
    finally:
        watch.stop()
        listener.stop()
        records.close()

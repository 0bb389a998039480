"""How processes that load images give batches back where shared memory or file handles are few.

PyTorch gives a batch back in shared memory, with a file handle for each tensor. Containers often
have 64 MB of shared memory (Docker's default), and some machines few file handles.
"""

import logging
import multiprocessing
import os
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reid_edge.core.parent import die_with_parent

SHARED_MEMORY = Path("/dev/shm")
# Batches that PyTorch lets each worker load ahead.
PREFETCHED = 2
# Batches that this process may hold at the same time.
HELD = 3
TENSORS_IN_BATCH = 2
# Semaphores and queues.
SMALLEST_SHARED_MEMORY = 1 << 20
HANDLES_OF_WORKER = 8
# What a training opens later: checkpoints, logs, images.
HANDLES_LEFT = 24

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workers:
    """The processes that load images.

    Attributes:
        count: of processes; 0: the process that trains loads the images.
        through_pipes: batches come through pipes, which takes neither shared memory nor file
            handles, and one more copy.
    """

    count: int
    through_pipes: bool = False


def fit_workers(wanted: int, batch_bytes: int, replicas: int = 1) -> Workers:
    """Choose what works here, and log a line if that is not what was wanted.

    The soft limit of file handles is raised if the hard limit allows it.

    Args:
        wanted: number of processes.
        batch_bytes: size of a batch.
        replicas: processes that train together; each has ``wanted`` processes.
    """
    if wanted == 0 or not sys.platform.startswith("linux"):
        return Workers(wanted)
    memory = free_shared_memory()
    if memory is None or memory < SMALLEST_SHARED_MEMORY:
        logger.warning(
            "%s cannot be written or is full, and processes that load images need it: images are "
            "loaded in this process, as with workers 0",
            SHARED_MEMORY,
        )
        return Workers(0)
    handles = _free_handles(1 << 10)
    few = HANDLES_OF_WORKER * wanted + HANDLES_LEFT
    if handles < few:
        logger.warning(
            "%d more files may be opened, and %d processes that load images take %d: images are "
            "loaded in this process; raise the limit (ulimit -n 1024), or set workers 0",
            handles, wanted, few,
        )  # fmt: skip
        return Workers(0)
    batches = wanted * PREFETCHED + HELD
    needed = batches * batch_bytes * replicas
    if memory < needed:
        logger.warning(
            "%s has %.0f MB free, and %d processes that load images take %.0f MB: batches come "
            "through pipes (docker run --shm-size=2g makes room)",
            SHARED_MEMORY, memory / 1e6, wanted * replicas, needed / 1e6,
        )  # fmt: skip
    elif handles < few + batches * TENSORS_IN_BATCH:
        logger.warning(
            "%d more files may be opened, and %d processes that load images take %d: batches come "
            "through pipes (ulimit -n 1024 makes room)",
            handles, wanted, few + batches * TENSORS_IN_BATCH,
        )  # fmt: skip
    else:
        return Workers(wanted)
    return Workers(wanted, through_pipes=True)


def free_shared_memory() -> int | None:
    """Return how many bytes of shared memory are free, or None if it cannot be written."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY or not os.access(SHARED_MEMORY, os.W_OK):
        return None
    return found.f_bavail * found.f_frsize


def _free_handles(enough: int) -> int:
    """Return how many more files this process may open; raise its limit if they are not enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < enough and (hard == unlimited or soft < hard):
        soft = enough if hard == unlimited else min(hard, enough)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return sys.maxsize if soft == unlimited else soft - len([*Path("/proc/self/fd").iterdir()])


class Loader(DataLoader[Any]):
    """PyTorch's loader, whose workers end with its process, also where that is killed.

    PyTorch's own workers check every five seconds whether their process lives. Until then they hold
    its locks, for which the next command waits. ``worker_init_fn`` is set here.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches that the loader of PyTorch yields."""
        # Linux takes the thread that starts a worker for its parent, and other threads may end.
        is_main = threading.current_thread() is threading.main_thread()
        self.worker_init_fn = _end_with_parent if is_main else None
        return super().__iter__()


def _end_with_parent(worker: int) -> None:
    del worker
    parent = multiprocessing.parent_process()
    # The parent of what a fork server starts is the server.
    if parent is not None and multiprocessing.get_start_method() != "forkserver":
        assert parent.pid is not None, "a process that has started has an ID"
        die_with_parent(parent.pid)


class PipedLoader(Loader):
    """A loader whose workers give batches back through pipes, as arrays."""

    def __init__(self, dataset: Any, **options: Any) -> None:
        super().__init__(dataset, collate_fn=_as_arrays, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches that the loader of PyTorch yields."""
        for batch in super().__iter__():
            if isinstance(batch, np.ndarray):
                yield torch.from_numpy(batch)
            else:
                yield [torch.from_numpy(part) for part in batch]


def _as_arrays(samples: Sequence[Any]) -> Any:
    """Stack images (B, 3, H, W), and classes (B,) if there are any."""
    if isinstance(samples[0], Tensor):
        return np.stack([image.numpy() for image in samples])
    images, classes = zip(*samples, strict=True)
    return [np.stack([image.numpy() for image in images]), np.array(classes, dtype=np.int64)]


def make_loader(
    dataset: Any, *, batch_size: int, image_bytes: int, workers: int, replicas: int = 1,
    persistent: bool = False, **options: Any,
) -> Loader:  # fmt: skip
    """Make a loader with as many workers as this machine can have.

    The number of workers and how they give batches back change no batch.

    Args:
        dataset: of images, or of images and classes.
        batch_size: images in a batch.
        image_bytes: size of an image.
        workers: processes that load images, if there is room for them.
        replicas: processes that train together.
        persistent: keep the workers between epochs.
        options: further ones of PyTorch's loader, but ``worker_init_fn``.
    """
    found = fit_workers(workers, batch_size * image_bytes, replicas)
    kind = PipedLoader if found.through_pipes else Loader
    return kind(
        dataset,
        batch_size=batch_size,
        num_workers=found.count,
        prefetch_factor=PREFETCHED if found.count else None,
        persistent_workers=persistent and found.count > 0,
        **options,
    )

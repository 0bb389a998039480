"""Few file handles and little shared memory change neither the batches nor their order."""

import ctypes
import hashlib
import logging
import multiprocessing
import os
import resource
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.loaders import EvaluationImages, evaluation_loader, training_loader
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.worker_limits import (
    PipedLoader,
    fit_workers,
    free_shared_memory,
    make_loader,
)

pytestmark = pytest.mark.medium

PLAIN, PIPES, ALONE = "Loader 2", "PipedLoader 2", "Loader 0"
# Of Linux: sched.h and sys/mount.h.
NEW_MOUNTS, NEW_USER, READ_ONLY, RECURSIVE, PRIVATE = 0x20000, 0x10000000, 1, 0x4000, 1 << 18


def load(root: Path, workers: int) -> tuple[set[str], str]:
    """Return how batches were loaded, and the hash of those of two loaders."""
    data, digest = read_market1501(root), hashlib.sha256()
    # A batch is of 11 MB; two workers take seven of them.
    height, width = 256, 144
    training = training_loader(
        data.train, augmentation=AugmentationSettings(erasing=0.5), height=height, width=width,
        identities_per_batch=8, images_per_identity=3, seed=3, workers=workers,
    )  # fmt: skip
    evaluation = evaluation_loader(
        data.gallery, height=height, width=width, batch_size=24, workers=workers
    )
    for epoch in (0, 1):
        training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for images, classes in training:
            assert classes.dtype == torch.int64
            digest.update(images.numpy().tobytes() + classes.numpy().tobytes())
    for images in evaluation:
        digest.update(images.numpy().tobytes())
    return {f"{type(one).__name__} {one.num_workers}" for one in (training, evaluation)}, (
        digest.hexdigest()
    )


@pytest.fixture(scope="module")
def expected(tiny_market: Path) -> str:
    kinds, digest = load(tiny_market, 0)
    assert kinds == {ALONE}
    return digest


def load_apart(root: Path, limit: Callable[[], None]) -> tuple[str, set[str], list[str]]:
    """Load with two workers in a process that limits itself first.

    Returns:
        The hash, how the batches were loaded, and the lines of the log.
    """

    def run(end: Connection) -> None:
        torch.set_num_threads(1)
        try:
            limit()
        except PermissionError as error:
            end.send(str(error))
            return
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger("reid_edge.data.worker_limits").addHandler(handler)
        kinds, digest = load(root, 2)
        end.send((digest, kinds, lines))

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    finally:
        process.join()
    if isinstance(found, str):
        pytest.skip(f"mounting in a namespace is not permitted here: {found}")
    return found  # type: ignore[no-any-return]


def mount_small_memory(size: str, flags: int) -> None:
    """Give this process a shared memory of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = NEW_MOUNTS | (NEW_USER if os.geteuid() else 0)
    if (
        libc.unshare(namespaces)
        or libc.mount(None, b"/", None, RECURSIVE | PRIVATE, None)
        or libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", flags, f"size={size}".encode())
    ):
        raise PermissionError(os.strerror(ctypes.get_errno()))


@pytest.mark.parametrize(
    ("size", "flags", "kind", "words"),
    [
        ("64m", 0, PIPES, "/dev/shm has 67 MB free, and 2 processes that load images take 74 MB: "),
        ("512k", 0, ALONE, "/dev/shm cannot be written or is full, and processes that load imag"),
        ("64m", READ_ONLY, ALONE, "/dev/shm cannot be written or is full, and processes that lo"),
    ],
)
def test_little_shared_memory(
    tiny_market: Path, expected: str, size: str, flags: int, kind: str, words: str
) -> None:
    found = load_apart(tiny_market, partial(mount_small_memory, size, flags))
    assert found[:2] == (expected, {kind})
    assert len(found[2]) == 2  # a line for each loader
    assert all(line.startswith(words) for line in found[2])


def limit_handles(free: int, hard: int | None) -> None:
    """Let this process open so many more files."""
    soft = len([*Path("/proc/self/fd").iterdir()]) + free
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft if hard is None else hard))


@pytest.mark.parametrize(
    ("free", "hard", "kind", "words"),
    [
        (20, 1024, PLAIN, None),  # the soft limit is raised
        (50, None, PIPES, "take 54: batches come through pipes (ulimit -n 1024 makes room)"),
        (30, None, ALONE, "take 40: images are loaded in this process; raise the limit (ulimit "),
    ],
)
def test_few_file_handles(
    tiny_market: Path, expected: str, free: int, hard: int | None, kind: str, words: str | None
) -> None:
    found = load_apart(tiny_market, partial(limit_handles, free, hard))
    assert found[:2] == (expected, {kind})
    assert len(found[2]) == (0 if words is None else 2)
    assert all(words is not None and words in line for line in found[2])


def test_nothing_changes_where_there_is_room(
    caplog: pytest.LogCaptureFixture, tiny_market: Path
) -> None:
    memory = free_shared_memory()
    if memory is None or memory < 8 << 20:
        pytest.skip("little shared memory")
    assert fit_workers(2, 1 << 20) == fit_workers(2, 1 << 20, replicas=1)
    assert not fit_workers(2, 1 << 20).through_pipes
    assert fit_workers(0, 1 << 60).count == 0
    assert not caplog.records
    assert fit_workers(2, memory // 10, replicas=1).through_pipes is False
    assert fit_workers(2, memory // 10, replicas=4).through_pipes is True


def test_a_loader_with_pipes_is_an_ordinary_one(tiny_market: Path) -> None:
    images = read_market1501(tiny_market).gallery
    plain = evaluation_loader(images, height=16, width=8, batch_size=5, workers=0)
    piped = PipedLoader(plain.dataset, batch_size=5)
    assert len(piped) == len(plain)
    assert all(torch.equal(a, b) for a, b in zip(plain, piped, strict=True))


@pytest.mark.parametrize("replicas", [1, 2])
def test_workers_end_with_the_process_that_is_killed(
    tiny_market: Path, replicas: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch's workers would look for it after this time.
    monkeypatch.setattr("torch.utils.data._utils.worker.MP_STATUS_CHECK_INTERVAL", 3600.0)
    images = read_market1501(tiny_market).gallery
    alive, inherited = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.setpgid(0, 0)
            batches = evaluation_loader(
                images, height=16, width=8, batch_size=1, workers=2, replicas=replicas
            )
            assert batches.num_workers == 2
            for _ in batches:
                os.write(inherited, b"loads")
                signal.pause()
        finally:
            os._exit(1)
    os.close(inherited)
    try:
        assert select.select([alive], [], [], 60)[0], "no batch"
        assert os.read(alive, 100) == b"loads"
        os.kill(process, signal.SIGKILL)
        # The pipe is closed when the last of its workers has ended.
        assert select.select([alive], [], [], 60)[0], "workers outlive their process"
        assert os.read(alive, 100) == b""
    finally:
        os.kill(process, signal.SIGKILL)  # nobody has waited for it
        os.waitpid(process, 0)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.close(alive)


def test_workers_survive_the_thread_that_starts_them(tiny_market: Path) -> None:
    images = read_market1501(tiny_market).gallery
    loader = make_loader(
        EvaluationImages(images, 16, 8), batch_size=4, image_bytes=512, workers=2, persistent=True
    )
    assert loader.num_workers == 2
    first: list[Tensor] = []
    thread = threading.Thread(target=lambda: first.extend(loader))
    thread.start()
    thread.join()
    assert torch.equal(torch.cat(first), torch.cat(list(loader)))

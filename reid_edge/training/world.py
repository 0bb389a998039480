"""The ranks of a command that another program started: rank zero works, the others help it.

Rank zero runs the command as one process does. Where all have something to do (an epoch,
embeddings) it sends the others what they need, so that they need no folder in common with it.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from reid_edge.core.errors import ReidError, TrainingError, error_in_traceback
from reid_edge.training.launchers import Launch
from reid_edge.training.signs_of_life import (
    ENDED,
    ERROR,
    SILENT_SECONDS,
    Heartbeat,
    Lost,
    Watch,
    end_process,
    key_of,
)

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

# Rank zero may work for days while the others wait for it.
FOREVER = timedelta(days=365)
# Machines of a cluster do not start at the same time.
JOIN = timedelta(minutes=30)
LOOPBACK = "127.0.0.1"
SPEAKER = "speaker"
EXIT_LOST = 1
# A launcher that sees a process fail ends the others: rank zero could not show the error.
EXIT_OTHER_RANK = 0
# Of the tensors that one rank sends another one.
DTYPES = (torch.float32, torch.float64, torch.int64)
# What rank zero sends when there is nothing left to do.
END = b"end"
# How the errors of a collective read when another rank has ended.
CONNECTION = re.compile(
    r"gloo|nccl|connection|socket|broken pipe|peer|process ?group|recv|TCPStore|store",
    re.IGNORECASE,
)


class OtherRankError(RuntimeError):
    """Another rank has failed, and shows why itself."""


@dataclass
class World:
    """The ranks of a command.

    Attributes:
        launch: the place of this process among them.
        store: that all ranks read and write.
        group: of Gloo, without a timeout.
        watch: over the other ranks.
        roots: folders of images, those of rank zero first; each with that of this process.
        patient: whether this rank waits for rank zero, which may work on its own.
    """

    launch: Launch
    store: Store
    group: dist.ProcessGroup
    watch: Watch
    roots: Sequence[tuple[Path, Path]] = ()
    patient: bool = field(default=False)

    @property
    def rank(self) -> int:
        """Return the rank of this process, from 0."""
        return self.launch.rank

    @property
    def size(self) -> int:
        """Return the number of ranks."""
        return self.launch.size

    def send(self, content: bytes) -> None:
        """Send bytes to all other ranks, which wait in :meth:`receive`."""
        values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(torch.tensor([len(values)]), 0, group=self.group)
        dist.broadcast(values, 0, group=self.group)

    def receive(self) -> bytes:
        """Wait for bytes of rank zero, as long as it takes."""
        self.patient = True
        try:
            length = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(length, 0, group=self.group)
            values = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(values, 0, group=self.group)
        finally:
            self.patient = False
        return values.numpy().tobytes()

    def gather(self, rows: Tensor) -> list[Tensor]:
        """Return the rows (N_r, D) of every rank on rank zero, and nothing on the others."""
        shape = torch.tensor(rows.shape)
        shapes = [torch.zeros_like(shape) for _ in range(self.size)]
        dist.all_gather(shapes, shape, group=self.group)
        longest, width = (int(max(shape[axis] for shape in shapes)) for axis in (0, 1))
        padded = torch.zeros(longest, width, dtype=rows.dtype)
        padded[: len(rows), : rows.shape[1]] = rows
        parts = [torch.zeros_like(padded) for _ in shapes] if self.rank == 0 else None
        dist.gather(padded, parts, 0, group=self.group)
        return [part[: int(s[0])] for part, s in zip(parts or (), shapes, strict=False)]

    def deal(self, batches: Sequence[Tensor] = ()) -> list[Tensor | None]:
        """Share out the batches of rank zero; every rank gets every so many, from its own number.

        Args:
            batches: of rank zero; the others have none.

        Returns:
            As many on every rank: None where there are no more batches.
        """
        count = torch.tensor(len(batches))
        dist.broadcast(count, 0, group=self.group)
        dealt: list[Tensor | None] = []
        for number in range(math.ceil(int(count) / self.size) * self.size):
            rank = number % self.size
            batch = batches[number] if number < len(batches) else None
            if rank == self.rank:
                dealt.append(batch if rank == 0 else self._receive_from(0))
            elif self.rank == 0:
                self._send_to(rank, batch)
        return dealt

    def exchange(self, values: Tensor) -> Tensor:
        """Return the values (...) of all ranks on every rank: (ranks, ...)."""
        found = [torch.zeros_like(values) for _ in range(self.size)]
        dist.all_gather(found, values, group=self.group)
        return torch.stack(found)

    def collect(self, values: Tensor | None) -> Iterator[Tensor]:
        """Yield the values of all ranks that have any, in their order, on rank zero alone."""
        if self.rank > 0:
            self._send_to(0, values)
            return
        for rank in range(self.size):
            theirs = values if rank == 0 else self._receive_from(rank)
            if theirs is not None:
                yield theirs

    def _send_to(self, rank: int, values: Tensor | None) -> None:
        """Send a tensor of at most six dimensions, or none."""
        header = torch.full((8,), -1)
        if values is not None:
            header[0], header[1] = values.dim(), DTYPES.index(values.dtype)
            header[2 : 2 + values.dim()] = torch.tensor(values.shape)
        dist.send(header, rank, group=self.group)
        if values is not None:
            dist.send(values.contiguous(), rank, group=self.group)

    def _receive_from(self, rank: int) -> Tensor | None:
        header = torch.zeros(8, dtype=torch.int64)
        dist.recv(header, rank, group=self.group)
        dimensions, dtype, *shape = header.tolist()
        if dimensions < 0:
            return None
        values = torch.empty(shape[:dimensions], dtype=DTYPES[dtype])
        dist.recv(values, rank, group=self.group)
        return values

    def local_path(self, path: Path) -> Path:
        """Return where an image of rank zero is on this machine."""
        for theirs, ours in self.roots:
            if path.is_relative_to(theirs):
                return ours / path.relative_to(theirs)
        return path

    def end_all(self, lost: Lost | None) -> None:
        """Say which rank is lost, unless another rank says it, and end this process."""
        if lost is None:
            line = (
                "rank 0, or the machine that holds the store of the ranks, cannot be reached any "
                "more, so all ranks end; the same command resumes after the last whole epoch"
            )
            speaks = self.launch.local_rank == 0 or self.rank == 1
        else:
            line, speaks = str(lost), True
            with suppress(RuntimeError):
                store = self.store.clone()
                speaker = store.compare_set(SPEAKER, "", str(self.rank)).decode()
                speaks = speaker == str(self.rank)
        if speaks:
            sys.stderr.write(f"error: {line}\n")
            sys.stderr.flush()
        if lost is not None and lost.here:
            with suppress(OSError):  # what is stopped does not end by itself
                os.kill(lost.process, signal.SIGKILL)
        end_process(EXIT_LOST)

    def fail(self, error: BaseException) -> None:
        """Tell the other ranks why this one fails, or find out which other rank is the reason.

        Raises:
            ReidError: rank zero shows the error of another rank as its own.
            RuntimeError: so it does with a fault of the program there.
            OtherRankError: another rank shows its error.
        """
        if not isinstance(error, Exception):  # an interruption
            lost = self.watch.gone() if self.rank == 0 else None
            if lost is not None:
                self.end_all(lost)
            return
        if isinstance(error, RuntimeError) and CONNECTION.search(str(error)):
            self._wait_for_reason()
        text = "".join(traceback.format_exception(error))
        first = self.store.compare_set(ERROR, "", f"{self.rank}\n{text}").decode()
        rank, _, told = first.partition("\n")
        if self.rank == 0 and (int(rank) == 0 or isinstance(error, ReidError)):
            return
        if self.rank > 0:
            raise OtherRankError(f"rank {rank} fails") from error
        original = error_in_traceback(told)
        if original is not None:
            raise original from error
        raise RuntimeError(f"rank {rank} of {self.size} failed:\n{told}") from error

    def wait_for_others(self) -> None:
        """Let rank zero, which may hold the store, end after the others have read why."""
        until = time.monotonic() + 3
        with suppress(RuntimeError):
            while self.rank == 0 and time.monotonic() < until:
                values = self.store.multi_get([key_of(rank) for rank in range(self.size)])
                if all(value.decode() == ENDED for value in values):
                    return
                time.sleep(0.1)

    def _wait_for_reason(self) -> None:
        """Wait for what broke a connection: the error of another rank, or a rank that is lost."""
        until = time.monotonic() + SILENT_SECONDS + 3
        while time.monotonic() < until:
            try:
                if self.store.check([ERROR]):
                    return
                lost = self.watch.gone()
                if lost is not None:
                    self.end_all(lost)
                if self.rank > 0 and self.store.get(key_of(0)).decode() == ENDED:
                    raise OtherRankError("rank 0 has ended")
            except OtherRankError:
                raise
            except RuntimeError:
                self.end_all(None)
            time.sleep(0.2)


@contextmanager
def joined(launch: Launch, device: str) -> Iterator[World]:
    """Join the ranks of a command; leave them when the block ends.

    Args:
        launch: the place of this process among them.
        device: "cuda" or "cpu".

    Raises:
        TrainingError: the others do not come.
        OtherRankError: another rank has failed and shows why.
    """
    environment = launch.cluster_environment()
    address = LOOPBACK if launch.num_nodes == 1 else environment.main_address
    port = environment.main_port
    choose_interface(None if launch.num_nodes == 1 else (address, port))
    try:
        store = _open_store(launch, address, port)
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        mine = PrefixStore(f"reid-edge/{attempt}", store)
        if device == "cuda":
            torch.cuda.set_device(launch.local_rank)
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=PrefixStore("group", mine),
            rank=launch.rank,
            world_size=launch.size,
            timeout=JOIN,
        )
        group: Any = dist.new_group(backend="gloo", timeout=FOREVER)
    except (RuntimeError, OSError) as error:
        raise TrainingError(
            f"rank {launch.rank} of {launch.size}: the ranks do not find each other at "
            f"{address}:{port} ({' '.join(str(error).split())[:200]}); start as many processes as "
            "devices x num_nodes, and let them reach that address"
        ) from error
    in_main = threading.current_thread() is threading.main_thread()
    signals = _listen() if launch.rank > 0 and in_main else None
    heartbeat = Heartbeat(mine.clone(), launch.rank, signals)
    heartbeat.beat(0)
    dist.barrier(group=group)

    def on_loss(lost: Lost | None) -> None:
        world.end_all(lost)

    def on_error() -> None:
        if launch.rank > 0:
            heartbeat.stop()
            end_process(EXIT_OTHER_RANK)

    watch = Watch(
        mine.clone(),
        launch.size,
        on_loss,
        on_error,
        skipped=lambda: (0,) if world.patient else (),
    )
    world = World(launch, mine.clone(), group, watch)
    heartbeat.start()
    watch.start()
    try:
        yield world
        if launch.rank == 0:
            world.send(END)
        watch.stop()
        dist.barrier(group=group)  # so that the store outlives the last rank
    except BaseException as error:
        try:
            world.fail(error)
        finally:
            watch.stop()
            heartbeat.stop()
            world.wait_for_others()
        raise
    heartbeat.stop()
    dist.destroy_process_group()


def _open_store(launch: Launch, address: str, port: int) -> Store:
    """Connect to the store of the launcher, or to the one that rank zero opens.

    On one machine it listens on the loopback interface alone.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return TCPStore(os.environ["MASTER_ADDR"], port, is_master=False, timeout=JOIN)
    if launch.rank > 0:
        return TCPStore(address, port, is_master=False, timeout=JOIN)
    if launch.num_nodes > 1:
        return TCPStore(address, port, is_master=True, timeout=JOIN, wait_for_workers=False)
    return serve_store(port)


def serve_store(port: int = 0) -> TCPStore:
    """Open a store that listens on the loopback interface alone; port 0: a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(128)
    bound = listener.getsockname()[1]
    return TCPStore(
        LOOPBACK, bound, is_master=True, timeout=JOIN, wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )  # fmt: skip


def choose_interface(main: tuple[str, int] | None) -> None:
    """Let Gloo and NCCL use the interface that leads to the main address, unless the user chose.

    By itself Gloo takes the one that this machine's name resolves to.

    Args:
        main: address and port; None: all processes are on this machine.
    """
    if sys.platform != "linux":
        return
    name = "lo" if main is None else _interface_to(*main)
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


def _interface_to(address: str, port: int) -> str | None:
    """Return the name of the interface whose address packets to another one come from (IPv4)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))
        except OSError:
            return None
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
                if socket.inet_ntoa(answer[20:24]) == own:
                    return name
    return None


def _listen() -> int:
    """Return a file descriptor that a byte comes from when this process is told to end."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(theirs)
    return ours

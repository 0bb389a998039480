"""Start the processes of a run as launchers do, and find out what they listen on."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Only for what hangs: a machine that is busy with other things takes its time.
PATIENCE = 300.0
CONFIG = """
name: ranks
threads: 1
device: cpu
stages: [train]
data: {{root: {root}, height: 64, width: 32, workers: 0, validation_share: {share}}}
model: {{architecture: small_net, embedding_dim: 32}}
train: {{epochs: 2, identities_per_batch: {identities}, images_per_identity: 2, optimizer: sgd, learning_rate: 0.02}}
prune:
  target: small_net_x0_5
  iterations: 1
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{epochs: 1, identities_per_batch: 3, images_per_identity: 2}}
finetune: {{epochs: 1, identities_per_batch: 3, images_per_identity: 2}}
quantize: {{calibration_images: 8, observer: minmax}}
latency: {{rounds: 2}}
"""  # noqa: E501
LONG = "train.epochs=60"


def write_config(path: Path, root: Path, *, identities: int = 3, share: float = 0.25) -> Path:
    path.write_text(CONFIG.format(root=root, identities=identities, share=share))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(config: Path, run: Path, *settings: str) -> list[str]:
    return [str(ROOT / "run_pipeline.py"), "--config", str(config), "--run", str(run), *settings]


def torchrun(ranks: int, arguments: Sequence[str]) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
        str(ranks), "--", *arguments,
    ]  # fmt: skip


def environments(kind: str, ranks: int) -> list[dict[str, str]]:
    """Return the variables that a launcher gives each process on one machine."""
    port = str(free_port())
    if kind == "slurm":
        return [
            {
                "SLURM_NTASKS": str(ranks), "SLURM_NTASKS_PER_NODE": str(ranks),
                "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0",
                "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost", "SLURM_JOB_NAME": "train",
                "SLURM_JOB_ID": "7", "MASTER_PORT": port,
            }
            for rank in range(ranks)
        ]  # fmt: skip
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    if kind == "kubeflow":
        common["WORLD_SIZE"] = str(ranks)
        return [{**common, "RANK": str(rank)} for rank in range(ranks)]
    return [{**common, "LOCAL_RANK": str(rank), "NODE_RANK": "0"} for rank in range(ranks)]


class Processes:
    """Processes whose error output is in files of a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, arguments: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{len(self.all)}.log").open("wb") as log:
            process = subprocess.Popen(
                arguments, env=os.environ | {"OMP_NUM_THREADS": "1"} | variables, stderr=log,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
        self.all.append(process)
        return process

    def error(self, number: int = 0) -> str:
        return (self._folder / f"{number}.log").read_text()

    @property
    def errors(self) -> str:
        return "".join(self.error(number) for number in range(len(self.all)))

    def wait(self) -> list[int]:
        return [process.wait(PATIENCE) for process in self.all]

    def wait_until(self, there: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not there():
            assert time.monotonic() < end, self.errors
            assert all(process.poll() is None for process in self.all), self.errors
            time.sleep(0.05)

    def end(self) -> None:
        for process in self.all:
            for child in [*children(process.pid), process.pid]:
                try:
                    os.kill(child, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            process.wait()


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    started = Processes(folder)
    try:
        yield started
    finally:
        started.end()


def children(process: int) -> list[int]:
    """Return the processes that a process started, and those that they started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == process:
            found += [int(entry.parent.name), *children(int(entry.parent.name))]
    return found


def of_rank(process: int, rank: int) -> int:
    """Return the process of a rank among those that torchrun started."""
    for child in children(process):
        variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if f"RANK={rank}".encode() in variables:
            return child
    raise AssertionError(f"no rank {rank}")


def listening(process: int) -> set[str]:
    """Return the hexadecimal addresses that a process listens on."""
    inodes = set()
    for entry in Path(f"/proc/{process}/fd").glob("*"):
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                found.add(words[1].partition(":")[0])
    return found

"""A run killed in every stage ends with the bits of one that was never interrupted."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reid_edge.core.io import hash_file
from tests.networks import small_networks

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: kill
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 2}}
model: {{architecture: {architecture}, embedding_dim: 32}}
train: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
prune:
  target: {target}
  iterations: 2
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
finetune: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
quantize: {{calibration_images: 8, observer: minmax}}
latency: {{rounds: 2}}
"""
# Files whose appearance says that a stage is at a certain point; the process is killed there.
MOMENTS = (
    "train/last.ckpt",  # between two epochs of train
    "prune/iteration_1/kept.json",  # in the middle of writing what a cut left
    "prune/iteration_1/last.ckpt",  # between two epochs after the first cut
    "prune/iteration_2/cut.json",  # after the second surgery
    "prune/iteration_2/checkpoint.pt",  # before the report of the second iteration
    "finetune/last.ckpt",
    "quantize/int8.pt",
)
# Files in which a bit is flipped after the kill: what they belong to is made again.
DAMAGED = {
    "prune/iteration_1/last.ckpt": "prune/iteration_1/compact.pt",
    "prune/iteration_2/checkpoint.pt": "prune/iteration_1/checkpoint.pt",
    "finetune/last.ckpt": "finetune/last.ckpt",
}
ONE_A_STAGE = MOMENTS[0], MOMENTS[2], *MOMENTS[-2:]
TRAINING = """
name: kill
stages: [train]
threads: 1
log: csv
data: {{root: {root}, height: 64, width: 32, workers: 2, validation_share: 0.25}}
model: {{architecture: osnet_x0_25, embedding_dim: 32}}
prune: {{target: osnet_x0_25}}
train:
  epochs: 4
  identities_per_batch: 4
  images_per_identity: 3
  learning_rate: 1.0e-3
  losses: {{circle: 0.01}}
  ema_decay: 0.9
  patience: 2
  frozen_layers: [conv1]
  frozen_epochs: 1
  schedule: step
  milestones: [2]
"""
# Only for what hangs: a machine that is busy with other things takes its time.
PATIENCE = 900.0


# Imports what a run imports, which takes longer than a tiny run, and forks for every command.
FORKS = """
import json, os, runpy, sys
import lightning, nni.compression.pruning, nni.compression.speedup
import pipeline.engine, pipeline.report.show, pipeline.stages.cutting, pipeline.stages.int8_files
import reid_edge.training.fit
import tests.networks
import torch._inductor.sizevars, torch.export._trace  # which torch.fx imports when it traces
for line in sys.stdin:
    arguments, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 0)
        sys.argv = ["run_pipeline.py", *arguments]
        runpy.run_path("run_pipeline.py", run_name="__main__")  # ends with SystemExit
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def start_python(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell's background jobs ignore interrupts, and what they start does too.
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A run of the command in a process of its own, which is forked with the imports done.

    Args:
        forks: runs ``FORKS``; it runs one command at a time.
        config: of the run.
        run: its folder.
    """

    def __init__(self, forks: "subprocess.Popen[bytes]", config: Path, run: Path) -> None:
        assert forks.stdin is not None
        assert forks.stdout is not None
        self._output = forks.stdout
        self._errors = config.with_name("errors.txt")
        arguments = ["--config", str(config), "--run", str(run)]
        forks.stdin.write(json.dumps([arguments, str(self._errors)]).encode() + b"\n")
        self._pid = int(forks.stdout.readline())

    def has_ended(self) -> bool:
        return bool(select.select([self._output], [], [], 0)[0])

    def send(self, number: signal.Signals) -> None:
        os.kill(self._pid, number)

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        assert select.select([self._output], [], [], PATIENCE)[0], "it hangs"
        return int(self._output.readline())

    def errors(self) -> str:
        return self._errors.read_text()


@pytest.fixture
def forks() -> Iterator["subprocess.Popen[bytes]"]:
    with small_networks():
        process = start_python("-W", "ignore", "-c", FORKS)
        yield process
        process.kill()
        process.communicate()


def kill_when(path: Path, command: Command) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert not command.has_ended(), command.errors()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.002)
    command.send(signal.SIGKILL)
    command.wait()


def interrupt_when(path: Path, command: Command) -> None:
    while not path.exists():
        assert not command.has_ended(), command.errors()
        time.sleep(0.002)
    command.send(signal.SIGINT)
    assert command.wait() == 130
    error = command.errors()
    assert "interrupted; the same command resumes from here" in error
    assert "Traceback" not in error


def complete(command: Command) -> str:
    """Wait for a command that ends well, and return what it said."""
    assert command.wait() == 0, command.errors()
    return command.errors()


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    ("moments", "architecture", "target"),
    [
        pytest.param(ONE_A_STAGE, "small_net", "small_net_x0_5", id="one a stage"),
        pytest.param(MOMENTS, "osnet_x0_5", "osnet_x0_25", id="all", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_in_every_stage_ends_with_the_same_bits(
    tiny_market: Path, tmp_path: Path, forks: "subprocess.Popen[bytes]", moments: tuple[str, ...],
    architecture: str, target: str,
) -> None:  # fmt: skip
    config = tmp_path / "kill.yaml"
    config.write_text(CONFIG.format(root=tiny_market, architecture=architecture, target=target))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    complete(Command(forks, config, whole))
    interrupt_when(broken / "train" / "started.json", Command(forks, config, broken))
    in_time = []
    for moment in moments:
        kill_when(broken / moment, Command(forks, config, broken))
        stage = moment.split("/", maxsplit=1)[0]
        if not (broken / stage / "stage.json").exists():
            in_time.append(moment)
            if moment in DAMAGED and (broken / DAMAGED[moment]).exists():
                flip_a_bit(broken / DAMAGED[moment])
    # On a busy machine a stage may end before this process sees that its moment has come.
    assert len(in_time) >= len(moments) * 5 / 7, in_time
    text = " ".join(complete(Command(forks, config, broken)).split())
    assert "finetune: reuse" in text
    left = [path for pattern in ("*.ckpt", "checksums.json", ".*.tmp", "*.partial")
            for path in broken.rglob(pattern)]  # fmt: skip
    assert left == []
    assert ("quantize: resume (was interrupted)" in text) == (moments[-1] in in_time)
    for stage in ("train", "prune", "finetune"):
        expected = weights(whole / stage / "checkpoint.pt")
        found = weights(broken / stage / "checkpoint.pt")
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), f"{stage}: {name}"
    for name in ("metrics.json", "quantization.json"):
        expected_text = (whole / "quantize" / name).read_text()
        assert (broken / "quantize" / name).read_text() == expected_text
    # Thresholds and indexes are tied to the file's hash.
    first, again = (run / "quantize" / "int8.pt" for run in (whole, broken))
    assert hash_file(first) == hash_file(again)
    models = [torch.jit.load(str(file)) for file in (first, again)]
    torch.backends.quantized.engine = "qnnpack"
    images = torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(models[0](images), models[1](images))


@pytest.mark.slow
def test_a_training_killed_behind_its_first_validation_ends_with_the_same_bits(
    tiny_market: Path, tmp_path: Path, forks: "subprocess.Popen[bytes]"
) -> None:
    config = tmp_path / "kill.yaml"
    config.write_text(TRAINING.format(root=tiny_market))
    whole, broken = tmp_path / "whole" / "train", tmp_path / "broken" / "train"
    complete(Command(forks, config, whole.parent))
    kill_when(broken / "best.ckpt", Command(forks, config, broken.parent))
    kill_when(broken / "last.ckpt", Command(forks, config, broken.parent))
    complete(Command(forks, config, broken.parent))
    for name in ("checkpoint.pt", "last.pt"):
        expected, found = weights(whole / name), weights(broken / name)
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
    assert (broken / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()

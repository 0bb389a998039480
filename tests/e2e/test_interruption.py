"""A run killed in every stage ends with the bits of one that was never interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
name: kill
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 2}}
model: {{architecture: osnet_x0_5, embedding_dim: 32}}
train: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
prune:
  target: osnet_x0_25
  iterations: 2
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
finetune: {{epochs: 2, identities_per_batch: 4, images_per_identity: 3}}
quantize: {{calibration_images: 8}}
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


def start(config: Path, run: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "run_pipeline.py", "--config", str(config), "--run", str(run)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell's background jobs ignore interrupts, and what they start does too.
        preexec_fn=heed_interrupts,
    )


def heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill_when(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def interrupt_when(path: Path, process: "subprocess.Popen[bytes]") -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"interrupted; the same command resumes from here" in error
    assert b"Traceback" not in error


def finish(process: "subprocess.Popen[bytes]") -> str:
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error.decode()
    return error.decode()


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(ONE_A_STAGE, id="one a stage"),
        pytest.param(MOMENTS, id="all", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_in_every_stage_ends_with_the_same_bits(
    tiny_market: Path, tmp_path: Path, moments: tuple[str, ...]
) -> None:
    config = tmp_path / "kill.yaml"
    config.write_text(CONFIG.format(root=tiny_market))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(config, whole))
    interrupt_when(broken / "train" / "started.json", start(config, broken))
    in_time = []
    for moment in moments:
        kill_when(broken / moment, start(config, broken))
        stage = moment.split("/", maxsplit=1)[0]
        if not (broken / stage / "stage.json").exists():
            in_time.append(moment)
    # On a busy machine a stage may end before this process sees that its moment has come.
    assert len(in_time) >= len(moments) * 5 / 7, in_time
    text = " ".join(finish(start(config, broken)).split())
    assert "finetune: reuse" in text
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
    models = [torch.jit.load(str(run / "quantize" / "int8.pt")) for run in (whole, broken)]
    torch.backends.quantized.engine = "qnnpack"
    images = torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(models[0](images), models[1](images))


@pytest.mark.slow
def test_a_training_killed_behind_its_first_validation_ends_with_the_same_bits(
    tiny_market: Path, tmp_path: Path
) -> None:
    config = tmp_path / "kill.yaml"
    config.write_text(TRAINING.format(root=tiny_market))
    whole, broken = tmp_path / "whole" / "train", tmp_path / "broken" / "train"
    finish(start(config, whole.parent))
    kill_when(broken / "best.ckpt", start(config, broken.parent))
    kill_when(broken / "last.ckpt", start(config, broken.parent))
    finish(start(config, broken.parent))
    for name in ("checkpoint.pt", "last.pt"):
        expected, found = weights(whole / name), weights(broken / name)
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name
    assert (broken / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()

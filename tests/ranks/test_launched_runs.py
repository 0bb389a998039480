"""Runs that torchrun, Slurm, Kubeflow and a user start: their results, and how they end."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.command import main
from reid_edge.cli.main import main as evaluate_main
from reid_edge.core.io import hash_file
from tests.networks import small_networks
from tests.ranks.launching import (
    LONG,
    ROOT,
    children,
    command,
    environments,
    listening,
    of_rank,
    processes,
    torchrun,
    write_config,
)

pytestmark = pytest.mark.slow

STAGES = "--stages=train,prune,finetune,quantize"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture(scope="module", autouse=True)
def networks() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope="module")
def whole(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four stages by two ranks of torchrun."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder / "config.yaml", tiny_market)
    with processes(folder / "logs") as started:
        started.start(torchrun(2, command(config, folder / "run", STAGES, "devices=2")))
        assert started.wait() == [0], started.errors
        assert started.error().count("train: epoch 1/2, loss") == 1
        assert started.error().count("finetune: done in") == 1
    return folder


def test_stages_say_how_many_trained_and_do_not_depend_on_it(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {
        stage: json.loads((whole / "run" / stage / "stage.json").read_text())
        for stage in ("train", "prune", "finetune", "quantize")
    }
    assert {stage: record["ranks"] for stage, record in records.items()} == {
        "train": 2, "prune": 2, "finetune": 2, "quantize": 1,
    }  # fmt: skip
    assert not any("devices" in record["settings"] for record in records.values())
    assert main(["--run", str(whole / "run"), "--plan", "devices=1"]) == 0
    assert capsys.readouterr().out.count("settings and inputs are the same") == 4
    assert main(["--run", str(whole / "run"), "--report"]) == 0
    assert "train, prune, finetune trained in 2 processes" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize("kind", ["slurm", "kubeflow", "by hand"])
def test_every_launcher_trains_the_same_model(
    kind: str, whole: Path, tmp_path: Path, tiny_market: Path
) -> None:
    # Kubeflow's processes count as machines; these two have no folder in common.
    numbers = ["num_nodes=2"] if kind == "kubeflow" else ["devices=2"]
    config = whole / "config.yaml"
    with processes(tmp_path / "logs") as started:
        for rank, variables in enumerate(environments(kind, 2)):
            started.start(
                [sys.executable, *command(config, tmp_path / f"run{rank}", *numbers)], **variables
            )
        assert started.wait() == [0, 0], started.errors
    assert "error" not in started.errors
    made = tmp_path / "run0" / "train" / "checkpoint.pt"
    assert hash_file(made) == hash_file(whole / "run" / "train" / "checkpoint.pt")
    assert not (tmp_path / "run1").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_killed_or_hangs_ends_all_and_the_run_resumes(
    number: signal.Signals, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = command(whole / "config.yaml", tmp_path / "run", LONG, "devices=2")
    with processes(tmp_path / "logs") as started:
        process = started.start(torchrun(2, arguments))
        started.wait_until((tmp_path / "run" / "train" / "last.ckpt").exists)
        victim = of_rank(process.pid, 1)
        os.kill(victim, number)
        assert started.wait() == [1]
        assert not children(process.pid)
    line = f"error: rank 1 of 2 (process {victim} on "
    assert started.error().count(line) == 1
    assert "killed or hangs, so all ranks end; the same command resumes" in started.error()
    assert started.error().count("Traceback") == 1  # torchrun's own
    state = torch.load(tmp_path / "run" / "train" / "last.ckpt", weights_only=True)
    left = state["epoch"] + 1
    # With one process the epochs have twice as many steps; the schedule goes on where it is.
    assert main([*arguments[1:-1], "devices=1"]) == 0
    log = capfd.readouterr().err
    assert f"train: resuming after epoch {left}" in log
    assert "1 processes train on where 2 did" in " ".join(log.split())
    record = json.loads((tmp_path / "run" / "train" / "stage.json").read_text())
    assert (record["ranks"], record["resumed"]) == (1, True)


def test_the_error_of_a_rank_is_shown_once(whole: Path, tmp_path: Path, tiny_market: Path) -> None:
    # The second machine misses the images.
    shutil.copytree(tiny_market, tmp_path / "images")
    for path in (tmp_path / "images" / "bounding_box_train").iterdir():
        path.unlink()
    roots = [tiny_market, tmp_path / "images"]
    with processes(tmp_path / "logs") as started:
        for rank, variables in enumerate(environments("kubeflow", 2)):
            started.start(
                [
                    sys.executable,
                    *command(whole / "config.yaml", tmp_path / f"run{rank}", "num_nodes=2"),
                    f"data.root={roots[rank]}",
                ],
                **variables,
            )
        assert started.wait() == [2, 0], started.errors
    assert started.error(1) == ""
    assert started.error().count("error: ") == 1
    assert f"error: {tmp_path / 'images'}" in started.error()
    assert "no such image" in started.error()


def test_evaluation_shared_out_is_that_of_one_process(
    whole: Path, tmp_path: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(whole / "run" / "train" / "checkpoint.pt")
    arguments = [
        "evaluate", "--weights", weights, "--data", str(tiny_market), "--batch-size", "5",
        "--device", "cpu", "--json",
    ]  # fmt: skip
    with processes(tmp_path / "logs") as started:
        program = [str(ROOT / "reid_edge" / "__main__.py"), *arguments, "--output"]
        started.start(torchrun(2, [*program, str(tmp_path / "shared")]))
        assert started.wait() == [0], started.errors
    assert evaluate_main([*arguments, "--output", str(tmp_path / "alone")]) == 0
    capsys.readouterr()
    for name in ("metrics.json", "queries.csv", "roc.csv", "cmc.csv"):
        assert hash_file(tmp_path / "shared" / name) == hash_file(tmp_path / "alone" / name)


def test_wrong_settings_are_refused_once(whole: Path, tmp_path: Path) -> None:
    with processes(tmp_path / "logs") as started:
        started.start(torchrun(2, command(whole / "config.yaml", tmp_path / "run")))
        assert started.wait() == [1]
    line = "error: devices: torchrun started 2 processes (TORCHELASTIC_RUN_ID is set), and devices"
    assert started.error().count(line) == 1
    assert not (tmp_path / "run").exists()


def test_own_processes_listen_on_loopback_and_end_when_one_hangs(
    whole: Path, tmp_path: Path
) -> None:
    arguments = command(whole / "config.yaml", tmp_path / "run", LONG, "devices=2")
    with processes(tmp_path / "logs") as started:
        process = started.start([sys.executable, *arguments])
        started.wait_until((tmp_path / "run" / "train" / "last.ckpt").exists)
        everybody = [process.pid, *children(process.pid)]
        addresses = set().union(*(listening(one) for one in everybody))
        assert addresses
        assert addresses <= LOOPBACK
        trainers = [
            child for child in children(process.pid)
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]  # fmt: skip
        os.kill(trainers[-1], signal.SIGSTOP)
        assert started.wait() == [2]
    assert started.error().count("error: rank ") == 1
    assert f"of 2 (process {trainers[-1]} on " in started.error()

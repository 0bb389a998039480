"""A message is one line, also when it comes from a worker process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader, Dataset

from pipeline.command import main, run_guarded
from reid_edge.core.errors import DataError, one_line

pytestmark = pytest.mark.medium


class Broken(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise DataError("a.jpg: cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
def test_one_line(workers: int) -> None:
    with pytest.raises(DataError) as caught:
        list(DataLoader(Broken(), num_workers=workers))
    assert one_line(caught.value) == "a.jpg: cannot be decoded"


def test_an_error_without_words() -> None:
    assert one_line(DataError()) == "DataError"


def test_memory_of_the_cpu_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    def take_it() -> None:
        torch.empty(10**15)

    assert run_guarded(take_it) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory; lower data.evaluation_batch, the stage's")


def test_an_error_of_our_own_making_is_not_hidden() -> None:
    def make_it() -> None:
        torch.cat([torch.empty(2), torch.empty(3, 1)])

    with pytest.raises(RuntimeError, match="number of dimensions"):
        run_guarded(make_it)


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_memory_that_is_used_up(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    def use_up() -> None:
        raise kind("CUDA out of memory.\nTried to allocate 20.00 MiB")

    assert run_guarded(use_up) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory; lower data.evaluation_batch, the stage's")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ProcessRaisedException("-- Process 1\ntorch.OutOfMemoryError: CUDA ...", 1, 2),
            "out of memory; lower",
        ),
        (
            ProcessRaisedException("OSError: [Errno 28] No space left on device: 'x'", 1, 2),
            "no space left on the device",
        ),
        (
            ProcessExitedException("process 1 terminated with signal SIGKILL", 1, 2, -9, "SIGKILL"),
            "one of the processes that train together ended (process 1 terminated with signal",
        ),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"
            ),
            "a process that loads images was killed",
        ),
    ],
)
def test_what_runs_out_in_another_process(
    error: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert run_guarded(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}")


def test_a_reader_that_has_seen_enough_is_no_interruption() -> None:
    program = Path(__file__).parents[2] / "run_pipeline.py"
    plan = [sys.executable, str(program), "--plan", "--run", "none", "--stages", "train,prune"]
    # Closed before the program starts: a process that another thread forks meanwhile keeps it open.
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*plan, "--config", str(program.parent / "configs" / "quickstart.yaml")],
        stdout=write, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert "interrupted" not in ended.stderr
    assert ended.returncode == 141


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "train"], "unknown option --stage: did you mean --stages?; see --help"),
        (
            ["--lr", "0.1"],
            "unknown option --lr: did you mean the setting train.learning_rate=VALUE?",
        ),
    ],
)
def test_an_option_is_never_taken_for_another(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err

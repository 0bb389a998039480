"""A message is one line, also when it comes from a worker process."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.command import run_guarded
from pipeline.errors import one_line
from reid.errors import DataError


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

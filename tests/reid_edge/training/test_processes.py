"""Two processes on the CPU train as one."""

import logging
import os
import platform
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from reid_edge.core.errors import DataError, TrainingError
from reid_edge.core.lock import locked
from reid_edge.core.parent import die_with_parent
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.loaders import training_loader
from reid_edge.data.sampling import EpochSampler
from reid_edge.data.schema import ReidData, relabel
from reid_edge.models import build_model
from reid_edge.training import fit as fitting
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import LAST, load_weights
from reid_edge.training.processes import lock_descriptors, one_log
from reid_edge.training.settings import TrainingSettings
from tests.networks import SMALL_NET
from tests.reid_edge.training.recording import Recording

pytestmark = pytest.mark.medium

SETTINGS = TrainingSettings(
    epochs=2,
    identities_per_batch=4,
    images_per_identity=3,
    learning_rate=1e-3,
    ema_decay=0.5,
    augmentation=AugmentationSettings(flip=0.5, crop_padding=2),
    frozen_layers=("conv2",),
    frozen_epochs=1,
)


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(f"{record.name}: {record.getMessage()}")


def train(data: ReidData, out: Path, epochs: int) -> list[str]:
    """Train in two processes; return the lines of the log of this one."""
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    model = build_model(SMALL_NET, num_classes=8, embedding_dim=16)
    config = FitConfig(
        images=data.train, settings=SETTINGS, height=32, width=16, seed=5,
        folder=out, label="two", accelerator="cpu", devices=2, log=("csv",),
    )  # fmt: skip
    lines, logger = Lines(), logging.getLogger("reid_edge")
    level, threads = logger.level, torch.get_num_threads()
    torch.set_num_threads(2)
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "ReidModule", partial(Recording, out=out, last=epochs))
        fitting.fit(model, config)
    logger.setLevel(level)
    logger.removeHandler(lines)
    torch.set_num_threads(threads)
    torch.save(model.state_dict(), out / "model.pt")
    return lines.all


def read(folder: Path, rank: int, epoch: int) -> dict[str, object]:
    path = folder / f"rank{rank}_epoch{epoch}.pt"
    return dict(torch.load(path, weights_only=True))


@pytest.fixture(scope="module")
def trained(tiny_data: ReidData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    lines = train(tiny_data, folder / "whole", 2)
    # What the first process logs is logged here, once.
    first = "reid_edge.training.epoch_log: two: epoch 1/2, loss"
    assert len([line for line in lines if line.startswith(first)]) == 1
    return folder


def test_the_ranks_share_out_the_epoch_of_one_process_with_a_batch_of_both(
    tiny_data: ReidData, trained: Path
) -> None:
    loader = training_loader(
        tiny_data.train,
        augmentation=AugmentationSettings(flip=0.5, crop_padding=2),
        height=32,
        width=16,
        identities_per_batch=8,
        images_per_identity=3,
        seed=5,
        workers=0,
    )
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        alone = [batch for images, _ in loader for batch in images.chunk(2)]
        seen = [read(trained / "whole", rank, epoch)["seen"] for rank in (0, 1)]
        assert [len(batches) for batches in seen] == [2, 2]
        assert len(alone) == 4
        for number, batch in enumerate(alone):
            drawn_in, found = seen[number % 2][number // 2]
            assert drawn_in == epoch
            assert torch.equal(found, batch)


def test_the_ranks_have_the_same_weights(trained: Path) -> None:
    for epoch in range(2):
        first, second = (read(trained / "whole", rank, epoch) for rank in (0, 1))
        assert first["threads"] == second["threads"] == 1  # two, shared out
        for name, value in first["state"].items():
            # Each process has statistics of its own; those of the first one are kept.
            if "running_" not in name:
                assert torch.equal(value, second["state"][name]), name
    model = build_model(SMALL_NET, num_classes=8, embedding_dim=16)
    load_weights(model, trained / "whole" / LAST)
    kept = torch.load(trained / "whole" / "model.pt", weights_only=True)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back")
def test_all_processes_keep_freed_memory(trained: Path) -> None:
    for rank in (0, 1):
        faults = read(trained / "whole", rank, 0)["faults"]
        assert faults[-1] < 1000, faults  # type: ignore[index]


def test_frozen_layers_learn_afterwards_in_all_processes(trained: Path) -> None:
    torch.manual_seed(0)
    before = build_model(SMALL_NET, num_classes=8, embedding_dim=16).state_dict()
    name = "conv2.weight"
    states = [read(trained / "whole", 1, epoch)["state"] for epoch in (0, 1)]
    assert torch.equal(states[0][name], before[name])
    assert not torch.equal(states[1][name], before[name])


@pytest.mark.slow
def test_an_interrupted_training_of_two_resumes_to_the_same_bits(
    tiny_data: ReidData, trained: Path
) -> None:
    train(tiny_data, trained / "broken", 1)
    assert not (trained / "broken" / "rank0_epoch1.pt").exists()
    train(tiny_data, trained / "broken", 2)
    whole, broken = (
        torch.load(trained / name / "model.pt", weights_only=True) for name in ("whole", "broken")
    )
    assert all(torch.equal(value, broken[name]) for name, value in whole.items())


def test_batches_for_all_devices_are_needed(tiny_data: ReidData) -> None:
    with pytest.raises(TrainingError, match="5 devices take 5 batches of 12 images at once"):
        EpochSampler(
            relabel(tiny_data.train), identities_per_batch=4, images_per_identity=3, seed=0,
            replicas=5,
        )  # fmt: skip


def test_an_error_of_a_process_is_raised_as_ones_own(tmp_path: Path) -> None:
    def fail(last: str) -> None:
        with one_log(2, tmp_path):
            trace = f"-- Process 1 terminated with the following error:\nTraceback ...\n{last}\n"
            raise ProcessRaisedException(trace, 1, 4711)

    with pytest.raises(DataError, match=r"^x\.jpg: no such image$"):
        fail("reid_edge.core.errors.DataError: x.jpg: no such image")
    # What a worker of the process could not load.
    with pytest.raises(DataError, match=r"^x\.jpg: no such image$"):
        fail(
            "reid_edge.core.errors.DataError: Caught DataError in DataLoader worker process 0.\n"
            "Original Traceback (most recent call last):\n  ...\n"
            "reid_edge.core.errors.DataError: x.jpg: no such image"
        )
    with pytest.raises(ProcessRaisedException, match="ZeroDivisionError"):
        fail("ZeroDivisionError: division by zero")
    with pytest.raises(ProcessRaisedException, match="ZeroDivisionError"):
        fail(
            "reid_edge.core.errors.DataError: x.jpg: no such image\n\nDuring handling of the above "
            "exception, another exception occurred:\n\nTraceback (most recent call last):\n  ...\n"
            "ZeroDivisionError: division by zero"
        )


def test_a_process_ends_with_its_parent_and_keeps_its_lock_until_then(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with locked(tmp_path / "lock"):
        (descriptor,) = lock_descriptors(tmp_path / "train")
        assert not lock_descriptors(tmp_path / "train" / ".." / "..")
        ours, theirs = os.pipe()
        parent = os.fork()
        if parent == 0:
            if os.fork() == 0:
                die_with_parent(os.getppid())
                os.write(theirs, f"{os.fstat(descriptor).st_ino}".encode())
            time.sleep(60)
            os._exit(0)
        os.close(theirs)
        assert int(os.read(ours, 100)) == (tmp_path / "lock").stat().st_ino
        os.kill(parent, signal.SIGKILL)
        assert os.read(ours, 100) == b""  # closed by the end of the last process
        os.waitpid(parent, 0)
        os.close(ours)

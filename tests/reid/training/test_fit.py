"""An interrupted training ends with the same bits as one that was never interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from reid.data.loaders import stack_pictures
from reid.data.records import ReidData
from reid.data.transforms import AugmentationSettings
from reid.errors import DataError
from reid.models import build_model
from reid.training.checkpoint_io import AtomicCheckpointIO
from reid.training.distillation import Teacher
from reid.training.fit import LAST, fit
from reid.training.module import ReidModule
from reid.training.settings import DistillationSettings, LossSettings, TrainingSettings

SETTINGS = TrainingSettings(
    epochs=3,
    identities_per_batch=4,
    pictures_per_identity=3,
    learning_rate=1e-3,
    augmentation=AugmentationSettings(flip=0.5, crop_padding=2, erasing=0.3),
)


class InterruptionError(Exception):
    pass


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return build_model("osnet_x0_25", num_classes=8, embedding_dim=16)


def train(model: nn.Module, data: ReidData, folder: Path, teacher: Teacher | None = None) -> None:
    fit(
        model, data.train, SETTINGS, height=32, width=16, seed=5, folder=folder, label="test",
        accelerator="cpu", teacher=teacher,
    )  # fmt: skip


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


FROZEN = {
    "frozen_layers": ("conv[1-5]",),
    "frozen_epochs": 2,
    "head_learning_rate": 1e-2,
    "schedule": "step",
    "milestones": (1, 2),
    "losses": LossSettings(circle=0.1),
}


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({"optimizer": "adamw"}, 0),
        ({"optimizer": "adamw"}, 2),
        ({"optimizer": "amsgrad"}, 0),
        ({"optimizer": "sgd"}, 0),
        (FROZEN, 0),
        (FROZEN | {"frozen_epochs": 1, "optimizer": "amsgrad"}, 0),
    ],
)
def test_an_interrupted_training_goes_on_to_the_same_bits(
    tiny_data: ReidData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    workers: int,
) -> None:
    settings = SETTINGS.model_copy(update=changes)
    whole, broken = make_model(), make_model()

    def run(model: nn.Module, folder: Path) -> None:
        fit(
            model, tiny_data.train, settings, height=32, width=16, seed=5, folder=folder,
            label="test", accelerator="cpu", workers=workers,
        )  # fmt: skip

    run(whole, tmp_path / "whole")
    steps = 0
    original = ReidModule.training_step

    def interrupted(
        self: ReidModule, batch: tuple[torch.Tensor, torch.Tensor], index: int
    ) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 6:  # in the middle of the second epoch
            raise InterruptionError
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(ReidModule, "training_step", interrupted)
        with pytest.raises(InterruptionError):
            run(broken, tmp_path / "broken")
    assert (tmp_path / "broken" / LAST).exists()
    torch.manual_seed(12345)
    resumed = make_model()
    run(resumed, tmp_path / "broken")
    assert same(whole, resumed)
    assert not same(whole, broken)


def test_training_lowers_the_loss_and_leaves_evaluation_possible(
    tiny_data: ReidData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 8})
    with caplog.at_level("INFO", logger="reid"):
        fit(
            make_model(), tiny_data.train, settings, height=32, width=16, seed=5, folder=tmp_path,
            label="test", accelerator="cpu",
        )  # fmt: skip
    losses = [
        float(record.getMessage().split("loss ")[1].split(",")[0])
        for record in caplog.records
        if "epoch" in record.getMessage()
    ]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("frozen_epochs", [1, 3])
def test_frozen_layers_stay_and_learn_afterwards(
    tiny_data: ReidData, tmp_path: Path, frozen_epochs: int
) -> None:
    changes = {"frozen_layers": ("conv1", "conv2.*"), "frozen_epochs": frozen_epochs}
    settings = SETTINGS.model_copy(update=changes)
    model, before = make_model(), make_model().state_dict()
    fit(
        model, tiny_data.train, settings, height=32, width=16, seed=5, folder=tmp_path,
        label="test", accelerator="cpu",
    )  # fmt: skip
    for name, value in model.state_dict().items():
        if frozen_epochs == SETTINGS.epochs and name.startswith(("conv1.", "conv2.")):
            assert torch.equal(value, before[name]), name
        elif ".gate." not in name:  # with its one channel it may be dead behind its ReLU
            assert not torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())
    # Statistics were taken only when the layers learnt.
    batches = (SETTINGS.epochs - frozen_epochs) * 4
    assert int(model.get_buffer("conv1.bn.num_batches_tracked")) == batches
    assert int(model.get_buffer("conv5.bn.num_batches_tracked")) == SETTINGS.epochs * 4


def test_a_teacher_pulls_the_student_towards_it(tiny_data: ReidData, tmp_path: Path) -> None:
    torch.manual_seed(9)
    teacher_model = build_model("osnet_x0_25", num_classes=8, embedding_dim=16).eval()
    before = {name: value.clone() for name, value in teacher_model.state_dict().items()}
    hints = {"conv1": None, "conv5": torch.arange(128)}
    teacher = Teacher(teacher_model, DistillationSettings(embedding=20, similarity=1), hints)
    alone, taught = make_model(), make_model()
    train(alone, tiny_data, tmp_path / "alone")
    train(taught, tiny_data, tmp_path / "taught", teacher)
    pictures = stack_pictures(tiny_data.train, height=32, width=16)
    with torch.no_grad():
        target = teacher_model.eval()(pictures)
        distances = [
            float((model.train()(pictures)[1] - target).norm()) for model in (alone, taught)
        ]
    assert distances[1] < distances[0]
    assert all(torch.equal(v, before[name]) for name, v in teacher_model.state_dict().items())


def test_no_epochs_change_nothing(tiny_data: ReidData, tmp_path: Path) -> None:
    model = make_model()
    fit(
        model, tiny_data.train, SETTINGS.model_copy(update={"epochs": 0}), height=32, width=16,
        seed=5, folder=tmp_path, label="test",
    )  # fmt: skip
    assert same(model, make_model())
    assert not (tmp_path / LAST).exists()


def test_a_picture_that_vanishes_is_named(tiny_data: ReidData, tmp_path: Path) -> None:
    gone = replace(tiny_data.train[0], path=Path("/nowhere/0001_c1.jpg"))
    with pytest.raises(DataError, match=r"0001_c1.jpg: no such picture"):
        fit(
            make_model(), [gone, *tiny_data.train[1:]], SETTINGS, height=32, width=16, seed=5,
            folder=tmp_path, label="test", accelerator="cpu",
        )  # fmt: skip


def test_a_failed_save_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("reid.files.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}

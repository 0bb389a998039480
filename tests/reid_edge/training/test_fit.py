"""An interrupted training ends with the same bits as one that was never interrupted."""

import csv
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_edge.core.checksums import CHECKSUMS
from reid_edge.core.errors import DataError, TrainingError
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.loaders import stack_images
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.features import embed_images
from reid_edge.models import build_model
from reid_edge.training.checkpoint_io import AtomicCheckpointIO
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import BEST, LAST, Progress, load_weights, read_progress
from reid_edge.training.module import ReidModule
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings
from reid_edge.training.validation import Validation
from tests.networks import SHORT_OSNET_X0_25

pytestmark = pytest.mark.medium

SETTINGS = TrainingSettings(
    epochs=3,
    identities_per_batch=4,
    images_per_identity=3,
    learning_rate=1e-3,
    augmentation=AugmentationSettings(flip=0.5, crop_padding=2, erasing=0.3),
)


def config(
    images: Sequence[Sample], settings: TrainingSettings, folder: Path, **changes: Any
) -> FitConfig:
    usual = FitConfig(
        images=images, settings=settings, height=32, width=16, seed=5, folder=folder, label="test",
        accelerator="cpu",
    )  # fmt: skip
    return replace(usual, **changes)


class InterruptionError(Exception):
    pass


class SmallModel(nn.Module):
    """Layers of the kinds and names that OSNet has; a step takes a millisecond."""

    def __init__(self) -> None:
        super().__init__()
        channels = {"conv1": (3, 8), "conv2": (8, 8), "conv5": (8, 16)}
        for name, (inputs, outputs) in channels.items():
            conv = nn.Conv2d(inputs, outputs, 3, stride=2, bias=False)
            layer = nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outputs)))
            self.add_module(name, layer)
        self.fc = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
        self.classifier = nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        for name in ("conv1", "conv2", "conv5"):
            x = self.get_submodule(name)(x).relu()
        embedding = self.fc(x.mean((2, 3)))
        return (self.classifier(embedding), embedding) if self.training else embedding


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return SmallModel()


def make_osnet() -> nn.Module:
    torch.manual_seed(0)
    return build_model(SHORT_OSNET_X0_25, num_classes=8, embedding_dim=16)


def train(model: nn.Module, data: ReidData, folder: Path, teacher: Teacher | None = None) -> None:
    fit(model, config(data.train, SETTINGS, folder, teacher=teacher))


def same(first: nn.Module, second: nn.Module) -> bool:
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@contextmanager
def interrupted_before(number: int) -> Iterator[None]:
    """Let a training end with an exception instead of its ``number``-th step."""
    steps = 0
    original = ReidModule.training_step

    def step(self: ReidModule, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> object:
        nonlocal steps
        steps += 1
        if steps == number:
            raise InterruptionError
        return original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReidModule, "training_step", step)
        with pytest.raises(InterruptionError):
            yield


FROZEN = {
    "frozen_layers": ("conv[1-5]",),
    "frozen_epochs": 2,
    "head_learning_rate": 1e-2,
    "schedule": "step",
    "milestones": (1, 2),
    "losses": LossSettings(circle=0.1),
}


@pytest.mark.parametrize(
    ("make", "changes", "workers"),
    [
        (make_osnet, {"optimizer": "adamw"}, 0),
        (make_model, {"optimizer": "adamw"}, 2),
        (make_model, {"optimizer": "amsgrad"}, 0),
        (make_model, {"optimizer": "sgd"}, 0),
        (make_model, FROZEN, 0),
        (make_model, FROZEN | {"frozen_epochs": 1, "optimizer": "amsgrad", "ema_decay": 0.9}, 0),
        (make_model, {"ema_decay": 0.9}, 0),
    ],
)
def test_an_interrupted_training_resumes_to_the_same_bits(
    tiny_data: ReidData,
    tmp_path: Path,
    make: Callable[[], nn.Module],
    changes: dict[str, object],
    workers: int,
) -> None:
    settings = SETTINGS.model_copy(update=changes)
    whole, broken = make(), make()

    def run(model: nn.Module, folder: Path) -> None:
        fit(model, config(tiny_data.train, settings, folder, workers=workers, log=("csv",)))

    run(whole, tmp_path / "whole")
    with interrupted_before(6):  # in the middle of the second epoch
        run(broken, tmp_path / "broken")
    assert (tmp_path / "broken" / LAST).exists()
    torch.manual_seed(12345)
    resumed = make()
    run(resumed, tmp_path / "broken")
    assert same(whole, resumed)
    assert not same(whole, broken)
    logs = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "broken")]
    assert logs[0] == logs[1]
    assert len(logs[0].splitlines()) == 1 + SETTINGS.epochs


class ScriptedValidation(Validation):
    """A validation whose scores are known beforehand."""

    scores: list[float]

    def mean_average_precision(self, _embeddings: torch.Tensor) -> float:
        return self.scores.pop(0)


def test_a_training_ends_with_its_best_epoch(tiny_data: ReidData, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 5, "patience": 2})

    def run(folder: Path, scores: list[float] | None) -> nn.Module:
        validation = None
        if scores is not None:
            validation = ScriptedValidation(tiny_data)
            object.__setattr__(validation, "scores", scores)
        model = make_model()
        fit(
            model,
            config(
                tiny_data.train, settings, folder, validation=validation, log=("csv", "tensorboard")
            ),
        )
        assert not scores
        return model

    with interrupted_before(9):  # after two of five epochs
        run(tmp_path / "two", None)
    expected = make_model()
    load_weights(expected, tmp_path / "two" / LAST)

    best = run(tmp_path / "whole", [0.2, 0.5, 0.4, 0.3])  # the fifth epoch is not started
    assert same(best, expected)
    assert torch.load(tmp_path / "whole" / BEST, weights_only=True)["epoch"] == 1
    assert torch.load(tmp_path / "whole" / LAST, weights_only=True)["epoch"] == 3
    with (tmp_path / "whole" / "metrics.csv").open(newline="") as file:
        logged = [float(row["validation/mAP"]) for row in csv.DictReader(file)]
    assert logged == pytest.approx([0.2, 0.5, 0.4, 0.3])
    assert list((tmp_path / "whole" / "tensorboard").glob("events.out.tfevents.*"))
    # Killed behind the last epoch: nothing is left to train.
    assert same(run(tmp_path / "whole", []), expected)

    with interrupted_before(11):  # in the third epoch
        run(tmp_path / "broken", [0.2, 0.5])
    (tmp_path / "broken").rename(tmp_path / "moved")
    assert same(run(tmp_path / "moved", [0.4, 0.3]), expected)


def test_what_is_validated_is_what_is_evaluated(
    tiny_data: ReidData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model()
    settings = SETTINGS.model_copy(
        update={"epochs": 2, "validate_every": 2, "ema_decay": 0.5, "precision": "bf16-mixed"}
    )
    validation = Validation(tiny_data, distance="euclidean", batch_size=7)
    with caplog.at_level("INFO", logger="reid_edge"):
        fit(model, config(tiny_data.train, settings, tmp_path, validation=validation))
    images = [*tiny_data.query, *tiny_data.gallery]
    value = validation.mean_average_precision(embed_images(model, images, height=32, width=16))
    lines = [record.getMessage() for record in caplog.records if "validation" in record.message]
    assert lines == [f"test: epoch 2/2, mAP {100 * value:.1f} on the validation identities"]


def test_the_average_of_the_weights_is_kept_beside_them(
    tiny_data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaged, plain = make_model(), make_model()
    fit(
        averaged,
        config(
            tiny_data.train, SETTINGS.model_copy(update={"ema_decay": 0.6}), tmp_path / "averaged"
        ),
    )
    states: list[dict[str, torch.Tensor]] = []

    def record(self: ReidModule, *_: object) -> None:
        states.append({name: v.clone() for name, v in self.model.state_dict().items()})

    monkeypatch.setattr(ReidModule, "on_train_batch_end", record)
    train(plain, tiny_data, tmp_path / "plain")
    last = torch.load(tmp_path / "averaged" / LAST, weights_only=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(last["current_model_state"][f"model.{name}"], value), name
    for name, found in averaged.state_dict().items():
        expected = states[0][name].double()
        for steps, state in enumerate(states[1:], start=1):
            decay = min(0.6, (1 + steps) / (10 + steps))
            expected = decay * expected + (1 - decay) * state[name]
        if not found.is_floating_point():
            expected = states[-1][name].double()
        assert torch.allclose(found.double(), expected, atol=1e-6), name


def test_training_lowers_the_loss_and_leaves_evaluation_possible(
    tiny_data: ReidData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 8})
    with caplog.at_level("INFO", logger="reid_edge"):
        fit(make_model(), config(tiny_data.train, settings, tmp_path))
    losses = [
        float(record.getMessage().split("loss ")[1].split(",")[0])
        for record in caplog.records
        if "epoch" in record.getMessage()
    ]
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_the_gradient_is_clipped(tiny_data: ReidData, tmp_path: Path) -> None:
    plain = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.0}
    moved = {}
    for clip in (0.01, 0.0):
        model = make_model()
        before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        settings = SETTINGS.model_copy(update=plain | {"gradient_clip": clip})
        fit(model, config(tiny_data.train, settings, tmp_path / str(clip)))
        after = nn.utils.parameters_to_vector(model.parameters()).detach()
        moved[clip] = float((after - before).norm())
    # Four steps, each of at most 1, 1.9, 2.71, 3.44 gradients with a momentum of 0.9.
    assert 0 < moved[0.01] <= 9.05 * 0.01 * 0.01
    assert moved[0.0] > 10 * moved[0.01]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_half_precision_on_a_gpu(tiny_data: ReidData, tmp_path: Path, precision: str) -> None:
    model, before = make_model(), make_model().state_dict()
    fit(
        model,
        config(
            tiny_data.train,
            SETTINGS.model_copy(update={"precision": precision}),
            tmp_path,
            accelerator="gpu",
        ),
    )
    after = model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not torch.equal(after["conv1.conv.weight"], before["conv1.conv.weight"])


@pytest.mark.parametrize("frozen_epochs", [1, 3])
def test_frozen_layers_stay_and_learn_afterwards(
    tiny_data: ReidData, tmp_path: Path, frozen_epochs: int
) -> None:
    changes = {"frozen_layers": ("conv1", "conv2.*"), "frozen_epochs": frozen_epochs}
    settings = SETTINGS.model_copy(update=changes)
    model, before = make_model(), make_model().state_dict()
    fit(model, config(tiny_data.train, settings, tmp_path))
    for name, value in model.state_dict().items():
        if frozen_epochs == SETTINGS.epochs and name.startswith(("conv1.", "conv2.")):
            assert torch.equal(value, before[name]), name
        else:
            assert not torch.equal(value, before[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())
    # Statistics were taken only when the layers learnt.
    batches = (SETTINGS.epochs - frozen_epochs) * 4
    assert int(model.get_buffer("conv1.bn.num_batches_tracked")) == batches
    assert int(model.get_buffer("conv5.bn.num_batches_tracked")) == SETTINGS.epochs * 4


def test_long_epochs_show_progress(
    tiny_data: ReidData,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid_edge.training.epoch_log.SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", logger="reid_edge"):
        train(make_model(), tiny_data, tmp_path)
    lines = [r.getMessage() for r in caplog.records if "batch" in r.getMessage()]
    assert [line.split(", ")[:2] for line in lines] == [
        [f"test: epoch {epoch}/3", f"batch {batch}/4"] for epoch in (1, 2, 3) for batch in (1, 2, 3)
    ]
    assert all(line.endswith(" s left") for line in lines)


def test_a_teacher_pulls_the_student_towards_it(tiny_data: ReidData, tmp_path: Path) -> None:
    torch.manual_seed(9)
    teacher_model = SmallModel().eval()
    before = {name: value.clone() for name, value in teacher_model.state_dict().items()}
    layouts = [value.stride() for value in teacher_model.state_dict().values()]
    hints = {"conv1": None, "conv5": torch.arange(16)}
    teacher = Teacher(teacher_model, DistillationSettings(embedding=20, similarity=1), hints)
    alone, distilled = make_model(), make_model()
    train(alone, tiny_data, tmp_path / "alone")
    train(distilled, tiny_data, tmp_path / "distilled", teacher)
    images = stack_images(tiny_data.train, height=32, width=16)
    with torch.no_grad():
        target = teacher_model.eval()(images)
        distances = [
            float((model.train()(images)[1] - target).norm()) for model in (alone, distilled)
        ]
    assert distances[1] < distances[0]
    assert all(torch.equal(v, before[name]) for name, v in teacher_model.state_dict().items())
    # A teacher that is saved later on has the same bytes as one that was not used.
    assert [value.stride() for value in teacher_model.state_dict().values()] == layouts


def test_no_epochs_change_nothing(tiny_data: ReidData, tmp_path: Path) -> None:
    model = make_model()
    fit(model, config(tiny_data.train, SETTINGS.model_copy(update={"epochs": 0}), tmp_path))
    assert same(model, make_model())
    assert not (tmp_path / LAST).exists()


def test_a_teacher_of_hints_alone_needs_hints(tiny_data: ReidData, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"losses": LossSettings(cross_entropy=0, triplet=0)})
    weights = DistillationSettings(embedding=0, cosine=0, hints=1)
    with pytest.raises(TrainingError, match=r"^test: nothing to learn from, every loss that"):
        fit(
            make_model(),
            config(tiny_data.train, settings, tmp_path, teacher=Teacher(make_model(), weights)),
        )
    assert Teacher(make_model(), weights, {"conv1": None}).has_terms


@pytest.mark.parametrize("damaged", [LAST, BEST])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "no checksum"])
def test_a_training_whose_state_is_damaged_begins_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damaged: str, damage: str
) -> None:
    for name in (LAST, BEST):
        AtomicCheckpointIO().save_checkpoint({"global_step": 6, "callbacks": {}}, tmp_path / name)
    assert read_progress(tmp_path, 3).epochs == 2
    path = tmp_path / damaged
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-100])
    if damage == "remove":
        path.unlink()
    if damage == "no checksum":
        (tmp_path / CHECKSUMS).unlink()
    with caplog.at_level(logging.WARNING):
        assert read_progress(tmp_path, 3) == Progress()
    assert "the training begins again, its state is damaged" in caplog.text
    assert not list(tmp_path.glob("*.ckpt"))
    caplog.clear()
    assert read_progress(tmp_path, 3) == Progress()
    assert not caplog.text


def test_an_image_that_vanishes_is_named(tiny_data: ReidData, tmp_path: Path) -> None:
    gone = replace(tiny_data.train[0], path=Path("/nowhere/0001_c1.jpg"))
    with pytest.raises(DataError, match=r"0001_c1.jpg: no such image"):
        fit(make_model(), config([gone, *tiny_data.train[1:]], SETTINGS, tmp_path))


def test_a_failed_save_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LAST
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("reid_edge.core.io.os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_cached_images_train_the_same_bits(tiny_data: ReidData, tmp_path: Path) -> None:
    models = []
    for name, cache in (("plain", None), ("cached", tmp_path / "cache")):
        models.append(make_model())
        fit(models[-1], config(tiny_data.train, SETTINGS, tmp_path / name, cache=cache))
    assert same(*models)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("kind", ["adamw", "amsgrad", "sgd"])
def test_a_fused_optimizer_learns_the_same(tiny_data: ReidData, tmp_path: Path, kind: str) -> None:
    models = []
    for fused in (False, True):
        changes = {"optimizer": kind, "fused_optimizer": fused, "epochs": 1}
        settings = SETTINGS.model_copy(update=changes)
        models.append(make_model())
        fit(models[-1], config(tiny_data.train, settings, tmp_path / str(fused)))
    states = [model.state_dict() for model in models]
    # BatchNorm removes the bias, so its gradient is rounding alone, whose sign Adam follows.
    of_rounding = {"fc.0.bias", "fc.1.running_mean"}
    assert of_rounding < states[0].keys()
    steps = len(tiny_data.train) // (SETTINGS.identities_per_batch * SETTINGS.images_per_identity)
    for name, value in states[0].items():
        if name not in of_rounding:
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-5)
        else:  # Adam moves each of the two by about a learning rate in a step
            assert (states[1][name] - value).abs().max() <= 2 * SETTINGS.learning_rate * steps


def test_a_later_setting_at_its_default_is_not_written() -> None:
    assert "fused_optimizer" not in TrainingSettings().model_dump()
    changed = TrainingSettings(fused_optimizer=True)
    assert TrainingSettings.model_validate(changed.model_dump(mode="json")) == changed

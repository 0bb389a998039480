"""A training stops at the first step whose losses or weights are not finite."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from reid_edge.core.errors import DivergenceError
from reid_edge.data.sampling import EpochSampler
from reid_edge.data.schema import ReidData, relabel
from reid_edge.training.distillation import Teacher
from reid_edge.training.divergence import StopAtDivergence
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import DIVERGED, FitConfig
from reid_edge.training.fit_state import LAST
from reid_edge.training.settings import DistillationSettings, TrainingSettings

SETTINGS = TrainingSettings(epochs=3, identities_per_batch=4, images_per_identity=3)
BATCHES = 4


class TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.classifier = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embeddings = self.bn(self.conv(x)).relu().mean((2, 3))
        return (self.classifier(embeddings), embeddings) if self.training else embeddings


def make_model() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel()


def train(
    data: ReidData,
    folder: Path,
    *,
    model: nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
    teacher: Teacher | None = None,
    **settings: Any,
) -> None:
    config = FitConfig(
        images=data.train, settings=SETTINGS.model_copy(update=settings), height=32, width=16,
        seed=5, folder=folder, label="train", accelerator="cpu", callbacks=callbacks,
        teacher=teacher,
    )  # fmt: skip
    fit(make_model() if model is None else model, config)


class Spoil(Callback):
    """Change the model or its gradients before the optimiser's step ``step``, counted from 1."""

    def __init__(self, step: int, change: Callable[[TinyModel], None]) -> None:
        self._step = step
        self._change = change

    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        del optimizer
        if trainer.global_step + 1 == self._step:
            with torch.no_grad():
                self._change(pl_module.model)  # type: ignore[arg-type]


def spoil_gradient(model: TinyModel) -> None:
    assert model.conv.weight.grad is not None
    model.conv.weight.grad[0] = math.nan


def spoil_statistic(model: TinyModel) -> None:
    assert model.bn.running_var is not None
    model.bn.running_var[1] = math.inf


def leave_step_out(model: TinyModel) -> None:
    """Do what a gradient scaler does where gradients overflow."""
    spoil_gradient(model)
    for parameter in model.parameters():
        parameter.grad = None


def test_a_rate_that_is_far_too_high_stops_the_first_epoch(
    tiny_data: ReidData, tmp_path: Path
) -> None:
    with pytest.raises(DivergenceError) as caught:
        train(tiny_data, tmp_path, learning_rate=1e12, optimizer="sgd")
    message = str(caught.value)
    assert message.startswith("train: epoch 1, step ")
    assert "is not finite (images " in message
    assert "; no epoch was whole; lower learning_rate (it is 1e+12) or set gradient_clip" in message
    assert "\n" not in message
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize(
    ("change", "reason", "step", "delayed"),
    # In the middle of the second epoch, and at its last step, behind which the state is saved.
    [
        (spoil_gradient, "a weight is not finite", BATCHES + 2, False),
        (spoil_gradient, "a weight is not finite", 2 * BATCHES, True),
        (spoil_statistic, "a statistic of a normalisation is not finite", BATCHES + 2, True),
        (spoil_statistic, "a statistic of a normalisation is not finite", 2 * BATCHES, False),
    ],
)
def test_the_step_and_its_images_are_named_and_the_last_state_stays(
    tiny_data: ReidData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[TinyModel], None],
    reason: str,
    step: int,
    delayed: bool,
) -> None:
    stop = partial(StopAtDivergence, delayed=delayed)
    monkeypatch.setattr("reid_edge.training.fit.StopAtDivergence", stop)
    train(tiny_data, tmp_path / "one", epochs=1, schedule="step", milestones=(9,), warmup_epochs=0)
    expected = torch.load(tmp_path / "one" / LAST, weights_only=True)["state_dict"]
    with pytest.raises(DivergenceError) as caught:
        train(
            tiny_data, tmp_path / "three", callbacks=[Spoil(step, change)], schedule="step",
            milestones=(9,), warmup_epochs=0,
        )  # fmt: skip
    sampler = EpochSampler(
        relabel(tiny_data.train), identities_per_batch=4, images_per_identity=3, seed=5
    )
    sampler.set_epoch(1)
    place = step - BATCHES
    drawn = [index for index, _ in sampler][(place - 1) * 12 : place * 12]
    files = [tiny_data.train[index].path for index in drawn]
    shown = ", ".join(file.name for file in files[:3])
    assert str(caught.value) == (
        f"train: epoch 2, step {place} of 4: {reason} (images {shown} and 9 more, all of them in "
        f"{tmp_path / 'three' / DIVERGED}); the state after epoch 1 is kept; lower learning_rate "
        "(it is 0.00035) or set gradient_clip, and give the same command again"
    )
    assert json.loads((tmp_path / "three" / DIVERGED).read_text()) == {
        "epoch": 2, "step": place, "reason": reason, "learning_rates": [3.5e-4, 3.5e-4],
        "images": [str(file) for file in files],
    }  # fmt: skip
    kept = torch.load(tmp_path / "three" / LAST, weights_only=True)["state_dict"]
    assert all(torch.equal(kept[name], value) for name, value in expected.items())


def test_a_diverged_training_resumes_with_another_rate(
    tiny_data: ReidData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DivergenceError):
        train(tiny_data, tmp_path, callbacks=[Spoil(BATCHES + 2, spoil_gradient)])
    caplog.clear()
    with caplog.at_level("INFO", logger="reid_edge"):
        train(tiny_data, tmp_path, learning_rate=1e-5, head_learning_rate=1e-3)
    state = torch.load(tmp_path / LAST, weights_only=True)
    assert [g["initial_lr"] for g in state["optimizer_states"][0]["param_groups"]] == [1e-5, 1e-3]
    assert state["lr_schedulers"][0]["base_lrs"] == [1e-5, 1e-3]
    assert state["global_step"] == 3 * BATCHES
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("train: resuming after epoch 1 ")
    # Half a cosine behind one epoch of warm-up: at the end of the second epoch of three.
    factor = 0.5 * (1 + math.cos(math.pi * 4 / 8))
    assert f"learning rate {1e-5 * factor:.2e} and {1e-3 * factor:.2e}," in lines[1]


@pytest.mark.parametrize("name", ["hint/bn", "embedding"])
def test_a_term_of_the_loss_is_named(tiny_data: ReidData, tmp_path: Path, name: str) -> None:
    other = make_model()
    assert other.bn.running_mean is not None
    other.bn.running_mean.fill_(math.nan)
    weights = {"embedding": 0.0, "cosine": 0.0, "hints": 0.0}
    weights["hints" if name.startswith("hint") else name] = 1.0
    teacher = Teacher(other, DistillationSettings(**weights), {"bn": None})
    with pytest.raises(DivergenceError, match=rf"^train: epoch 1, step 1 of 4: loss {name} is not"):
        train(tiny_data, tmp_path, teacher=teacher)


def test_a_step_that_is_left_out_for_its_gradients_is_no_divergence(
    tiny_data: ReidData, tmp_path: Path
) -> None:
    train(tiny_data, tmp_path, epochs=1, callbacks=[Spoil(2, leave_step_out)])
    assert (tmp_path / LAST).exists()
    assert not (tmp_path / DIVERGED).exists()


def test_weights_whose_sum_overflows_are_no_divergence(tiny_data: ReidData, tmp_path: Path) -> None:
    model = make_model()
    model.register_parameter("unused", nn.Parameter(torch.full((2,), 3e38)))
    train(tiny_data, tmp_path, model=model, epochs=1)
    assert (tmp_path / LAST).exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed"])
def test_a_gpu_is_looked_at_one_step_later(
    tiny_data: ReidData, tmp_path: Path, precision: str
) -> None:
    config = FitConfig(
        images=tiny_data.train, settings=SETTINGS.model_copy(update={"precision": precision}),
        height=32, width=16, seed=5, folder=tmp_path, label="train", accelerator="gpu",
        callbacks=[Spoil(BATCHES + 2, spoil_statistic)],
    )  # fmt: skip
    with pytest.raises(DivergenceError, match=r"^train: epoch 2, step 2 of 4: a statistic of a"):
        fit(make_model(), config)

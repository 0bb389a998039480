"""What the settings make of the optimiser and of the learning rate."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from reid_edge.models import build_model
from reid_edge.training.distillation import Teacher
from reid_edge.training.module import ReidModule, make_optimizer, make_schedule
from reid_edge.training.settings import DistillationSettings, TrainingSettings

Randomise = Callable[[nn.Module], None]


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("adamw", torch.optim.AdamW, {"amsgrad": False}),
        ("adam", torch.optim.Adam, {"amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"amsgrad": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_optimizers(name: str, kind: type, options: dict[str, object]) -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    settings = TrainingSettings.model_validate({"optimizer": name, "weight_decay": 0.01})
    optimizer = make_optimizer(model, settings)
    assert type(optimizer) is kind
    for group in optimizer.param_groups:
        assert group["weight_decay"] == 0.01
        assert {key: group[key] for key in options} == options


def test_five_epochs_of_warm_up_then_steps() -> None:
    settings = TrainingSettings.model_validate(
        {"epochs": 20, "warmup_epochs": 5, "schedule": "step", "milestones": [10, 15]}
    )
    factor = make_schedule(settings, steps_per_epoch=4)
    rates = [factor(step) for step in range(80)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[0] == pytest.approx(1 / 21)
    assert set(rates[20:40]) == {1.0}
    assert rates[40:60] == pytest.approx([0.1] * 20)
    assert rates[60:] == pytest.approx([0.01] * 20)


def test_a_short_training_reaches_its_rate() -> None:
    settings = TrainingSettings.model_validate(
        {"epochs": 4, "warmup_epochs": 5, "schedule": "step", "milestones": [3]}
    )
    rates = [make_schedule(settings, steps_per_epoch=10)(step) for step in range(40)]
    assert max(rates) == rates[20] == 1.0
    assert rates[30] == pytest.approx(0.1)


@pytest.mark.parametrize("architecture", ["osnet_x0_25", "resnet18_x0_5", "resnet18_bnneck_x0_5"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    architecture: str, monkeypatch: pytest.MonkeyPatch, randomise_normalisation: Randomise
) -> None:
    student = build_model(architecture, num_classes=4)
    randomise_normalisation(student)
    weights = DistillationSettings(embedding=1, cosine=1, similarity=1, logits=1)
    module = ReidModule(
        student,
        TrainingSettings(),
        steps_per_epoch=1,
        teacher=Teacher(copy.deepcopy(student), weights),
    ).train()
    for norm in student.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            norm.eval()  # with statistics of the batch it would not compute what its teacher does
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    module.training_step((torch.rand(4, 3, 64, 32), torch.tensor([0, 0, 1, 1])), 0)
    for term in ("embedding", "cosine", "similarity", "logits"):
        assert logged[f"loss/{term}"].item() == pytest.approx(0, abs=1e-5), term


def test_hints_compare_stages_at_the_kept_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    student = build_model("osnet_x0_25", num_classes=4)
    wider = build_model("osnet_x0_5", num_classes=4)
    kept = torch.arange(0, 32, 2)
    teacher = Teacher(wider, DistillationSettings(hints=2), {"conv1": kept})
    module = ReidModule(student, TrainingSettings(), steps_per_epoch=1, teacher=teacher).train()
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    images = torch.rand(4, 3, 64, 32)
    loss = module.training_step((images, torch.tensor([0, 0, 1, 1])), 0)
    with torch.no_grad():
        found = student.get_submodule("conv1")(images)
        wanted = wider.eval().get_submodule("conv1")(images)[:, kept]
    expected = 2 * float((found - wanted).pow(2).sum() / wanted.pow(2).sum())
    assert expected > 0.1
    assert logged["loss/hint/conv1"].item() == pytest.approx(expected, rel=1e-4)
    terms = [value.item() for name, value in logged.items() if name.startswith("loss/")]
    assert loss.item() == logged["loss"].item() == pytest.approx(sum(terms), rel=1e-5)


def test_warm_up_then_a_cosine_to_zero() -> None:
    settings = TrainingSettings.model_validate({"epochs": 20, "warmup_epochs": 5})
    factor = make_schedule(settings, steps_per_epoch=4)
    assert factor(20) == 1.0
    assert factor(50) == pytest.approx(0.5)
    assert factor(80) == pytest.approx(0.0)

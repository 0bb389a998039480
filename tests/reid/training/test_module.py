"""What the settings make of the optimiser and of the learning rate."""

import pytest
import torch
from torch import nn

from reid.training.module import make_optimizer, make_schedule
from reid.training.settings import TrainingSettings


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


def test_warm_up_then_a_cosine_to_zero() -> None:
    settings = TrainingSettings.model_validate({"epochs": 20, "warmup_epochs": 5})
    factor = make_schedule(settings, steps_per_epoch=4)
    assert factor(20) == 1.0
    assert factor(50) == pytest.approx(0.5)
    assert factor(80) == pytest.approx(0.0)

"""Recalibration sets statistics and nothing else."""

import torch
from torch import nn

from prune.recalibrate import recalibrate


def test_statistics_become_those_of_the_pictures() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weights = {name: value.clone() for name, value in model.named_parameters()}
    batches = [torch.randn(8, 3, 5, 5), torch.randn(8, 3, 5, 5) + 1]
    recalibrate(model, batches)
    outputs = [model[0](batch).detach() for batch in batches]
    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.transpose(0, 1).flatten(1).var(1) for output in outputs]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(model[1].running_var, variance, atol=1e-6)
    assert model[1].momentum == 0.1
    assert not model.training
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())

"""Taylor scores equal a loop over weights, one at a time."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from prune.criteria.criterion import ScoreRequest, ScoringData
from prune.criteria.taylor import TAYLOR, loss_changes
from prune.layer_widths import layer_widths
from prune.surgery import cut
from reid_edge.core.errors import PruneError

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def cross_entropy(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(images), classes)


def data_of(batches: list[Batch], loss: Loss = cross_entropy) -> ScoringData:
    return ScoringData([images for images, _ in batches], [classes for _, classes in batches], loss)


def taylor_scores(
    model: nn.Module, batches: list[Batch], loss: Loss = cross_entropy
) -> dict[str, Tensor]:
    return loss_changes(ScoreRequest(model, (), {}, [], data=data_of(batches, loss)))


def draw_batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(6, 3, 8, 8, generator=generator), torch.randint(5, (6,), generator=generator))
        for _ in range(2)
    ]


def naive_score(model: nn.Module, name: str, channel: int, batches: list[Batch]) -> float:
    """Change one weight after the other and look at the loss."""
    weight = model.get_submodule(name).weight.detach()
    total, step = 0.0, 1e-6
    for batch in batches:
        for index in range(weight[channel].numel()):
            entry = weight[channel].view(-1)
            value = entry[index].clone()
            entry[index] = value + step
            higher = cross_entropy(model, *batch)
            entry[index] = value - step
            lower = cross_entropy(model, *batch)
            entry[index] = value
            total += float(value * (higher - lower) / (2 * step)) ** 2
    return total / len(batches)


@torch.no_grad()
def test_scores_equal_naive_ones(small_net: nn.Module) -> None:
    model = small_net.double()
    batches = [(images.double(), classes) for images, classes in draw_batches()]
    scores = taylor_scores(model, batches)
    assert scores.keys() == layer_widths(model).keys()
    for name in ("stem", "depthwise", "gate", "head"):  # spatial, depthwise, called twice, linear
        naive = [naive_score(model, name, channel, batches) for channel in (0, 3)]
        assert scores[name][[0, 3]].tolist() == pytest.approx(naive, rel=1e-4), name


def test_the_model_stays_as_it_was(small_net: nn.Module) -> None:
    def train_and_measure(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
        return cross_entropy(model.train(), images, classes)

    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    taylor_scores(small_net, draw_batches(), train_and_measure)
    assert not small_net.training
    assert all(torch.equal(before[name], value) for name, value in small_net.state_dict().items())
    assert all(parameter.grad is None for parameter in small_net.parameters())


def test_the_channels_that_the_loss_does_not_need_go(small_net: nn.Module) -> None:
    with torch.no_grad():  # strong weights, but nothing comes out
        small_net.get_submodule("pointwise").weight.mul_(10)
        small_net.get_submodule("depthwise_norm").weight[:3] = 0
        small_net.get_submodule("depthwise_norm").bias[:3] = 0
        small_net.get_submodule("stem_norm").weight[:3] = 0
        small_net.get_submodule("stem_norm").bias[:3] = 0
    widths = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}
    example = torch.randn(2, 3, 8, 8)
    result = cut(small_net, widths, example=example, check_input=example, criterion="taylor",
                 data=data_of(draw_batches()))  # fmt: skip
    assert result.kept["stem"].tolist() == [3, 4, 5, 6, 7]


def test_scores_that_were_not_measured_are_named(small_net: nn.Module) -> None:
    example = torch.randn(2, 3, 8, 8)

    def without_gate(request: ScoreRequest) -> dict[str, Tensor]:
        return {name: score for name, score in TAYLOR.score(request).items() if name != "gate"}

    criterion = replace(TAYLOR, score=without_gate)
    widths = {"stem": 5, "pointwise": 5, "depthwise": 5, "gate": 5}
    with pytest.raises(PruneError, match="'taylor' returned no scores for layer 'gate'"):
        cut(small_net, widths, example=example, check_input=example, criterion=criterion,
            data=data_of(draw_batches()))  # fmt: skip

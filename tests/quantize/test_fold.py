import copy

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.fold import fold_batchnorm, folded_copy
from reid_edge.core.errors import QuantizeError
from reid_edge.models import build_model


def _with_statistics(model: nn.Module) -> nn.Module:
    """Give BatchNorms statistics and gains of their own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
    return model.eval()


def _folded(model: nn.Module) -> tuple[fx.GraphModule, int]:
    graph = fx.symbolic_trace(copy.deepcopy(model))
    return graph, fold_batchnorm(graph)


def test_convolution_and_linear_layer_take_their_batchnorm_in() -> None:
    model = _with_statistics(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, groups=8),
            nn.BatchNorm2d(8, affine=False),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 5),
            nn.BatchNorm1d(5),
        )
    )
    graph, count = _folded(model)
    assert count == 3
    assert not any("BatchNorm" in type(module).__name__ for module in graph.modules())
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(graph(images), model(images))


def test_no_batchnorm_is_left_in_osnet() -> None:
    model = _with_statistics(build_model("osnet_x0_25"))
    graph, _ = _folded(model)
    assert not any("BatchNorm" in type(module).__name__ for module in graph.modules())
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(graph(images), model(images), rtol=1e-3, atol=1e-3)


class Reused(nn.Module):
    """The convolution's own output is needed as well, so that its BatchNorm has to stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.norm(y)


def test_what_cannot_be_folded_stays() -> None:
    model = _with_statistics(Reused())
    graph, count = _folded(model)
    images = torch.randn(2, 3, 4, 4)
    assert count == 0
    assert torch.equal(graph(images), model(images))


class Shared(nn.Module):
    """One convolution and one BatchNorm, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(self.norm(self.convolution(x))))  # type: ignore[no-any-return]


def test_what_is_called_twice_is_left_alone() -> None:
    model = _with_statistics(Shared())
    graph, count = _folded(model)
    assert count == 0
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(graph(images), model(images))


def test_a_folded_copy_leaves_the_model_and_shares_what_it_shares() -> None:
    model = _with_statistics(build_model("osnet_x0_25"))
    before = copy.deepcopy(model.state_dict())
    graph = folded_copy(model, torch.zeros(1, 3, 64, 32))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    calls = [node.target for node in graph.graph.nodes if str(node.target).endswith("gate.fc1")]
    assert len(calls) == 24
    assert len(set(calls)) == 6


def test_a_graph_that_computes_something_else_is_not_folded(written_over: nn.Module) -> None:
    with pytest.raises(QuantizeError, match=r"^WrittenOver and its torch\.fx trace .* in place"):
        folded_copy(written_over, torch.zeros(1, 3, 8, 4))

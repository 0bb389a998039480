"""A trace has one input, and what cannot be traced is refused in the caller's words."""

import pytest
import torch
from torch import Tensor, fx, nn

from reid_edge.core.errors import ModelError
from reid_edge.core.graph import trace_one_input


class Scaled(nn.Module):
    def forward(self, x: Tensor, scale: float = 3.0, *rest: Tensor, **options: int) -> Tensor:
        return x * scale + len(rest) + len(options)


class Both(nn.Module):
    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        return x * camera


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def traced(model: nn.Module) -> fx.GraphModule:
    return trace_one_input(
        model,
        error=ModelError,
        needed_by="a test needs one input",
        explain=lambda error: f"no trace: {type(error).__name__}",
    )


def test_further_arguments_keep_their_defaults() -> None:
    graph = traced(Scaled())
    x = torch.randn(2, 3)
    assert torch.equal(graph(x), x * 3.0)
    assert [node.name for node in graph.graph.nodes if node.op == "placeholder"] == ["x"]


def test_a_graph_shares_the_modules_of_its_model() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    assert traced(model).get_submodule("0") is model[0]


def test_a_second_input_is_refused() -> None:
    message = r"^Both needs 'camera' besides images: a test needs one input$"
    with pytest.raises(ModelError, match=message):
        traced(Both())


def test_a_failing_trace_is_explained_by_the_caller() -> None:
    with pytest.raises(ModelError, match=r"^no trace: TraceError$"):
        traced(Branching())

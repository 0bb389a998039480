"""A graph computes what its model does on images alone, or is refused."""

import pytest
import torch
from torch import Tensor, nn

from quantize.calibrate import Scheme
from quantize.fold import folded_copy
from quantize.static import quantize_static
from quantize.trace_check import check_trace, trace
from reid_edge.core.errors import QuantizeError


class Labelled(nn.Module):
    """Embeddings of images alone, logits where a label comes with them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classify = nn.Linear(8, 5)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        embeddings: Tensor = self.embed(x)
        return embeddings if label is None else self.classify(embeddings)


class WithCamera(nn.Module):
    def forward(self, x: Tensor, camera: Tensor) -> Tensor:
        return x * camera


class AsksForTheDevice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[{"cpu": 0}[x.device]]  # type: ignore[index]


def test_further_arguments_stay_at_their_defaults() -> None:
    model = Labelled().eval()
    images = torch.randn(4, 3, 8, 8)
    graph = trace(model)
    assert torch.equal(graph(images), model(images))
    assert "classify" not in {node.target for node in graph.graph.nodes}


def test_a_model_that_needs_more_than_images_is_refused() -> None:
    with pytest.raises(QuantizeError, match=r"^WithCamera needs 'camera' besides images: "):
        trace(WithCamera())


def test_any_error_that_a_forward_pass_raises_is_reported_in_one_line() -> None:
    with pytest.raises(QuantizeError, match=r"^AsksForTheDevice cannot be traced .*: .+$"):
        trace(AsksForTheDevice())


def test_a_trace_that_computes_something_else_is_found(written_over: nn.Module) -> None:
    images = torch.randn(3, 3, 8, 4)
    labelled = Labelled()
    before = images.clone()
    check_trace(trace(labelled), labelled, images)
    with pytest.raises(QuantizeError, match=r"^WrittenOver and its torch\.fx trace .* in place"):
        check_trace(trace(written_over), written_over, images)
    assert torch.equal(images, before)


class NormalisedTokens(nn.Module):
    """A BatchNorm over the tokens of a linear layer; there are 8 tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(3, channels), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.mix(x.flatten(2).transpose(1, 2)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("channels", [8, 5])
def test_a_batchnorm_over_tokens_is_not_folded(channels: int) -> None:
    model, images = NormalisedTokens(channels).eval(), torch.randn(4, 3, 4, 2)
    words = f"^'norm' normalises 8 tokens, not the {channels} channels of 'mix': .*layer$"
    with pytest.raises(QuantizeError, match=words):
        folded_copy(model, images)
    with pytest.raises(QuantizeError, match=words):
        quantize_static(model, [images], Scheme(observer="minmax"))

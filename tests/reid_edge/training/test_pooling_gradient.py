"""The gradient of global average pooling, in the layout of its input."""

import pytest
import torch
from torch import Tensor, nn

from reid_edge.models import build_model
from reid_edge.training.pooling_gradient import channels_last_pooling_gradients


def gradients(model: nn.Module, images: Tensor, *, changed: bool) -> dict[str, Tensor]:
    """Return the gradients of a model's weights, with its own pooling gradients or changed ones."""
    model.zero_grad()
    if changed:
        with channels_last_pooling_gradients(model):
            logits, embeddings = model(images)
    else:
        logits, embeddings = model(images)
    (logits.square().sum() + embeddings.square().sum()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}  # type: ignore[union-attr]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_of_osnet_are_the_same_to_the_bit(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=3).train()
    model.to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 64, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        own = gradients(model, images, changed=False)
        changed = gradients(model, images, changed=True)
    assert own.keys() == changed.keys()
    for name, gradient in own.items():
        assert torch.equal(gradient, changed[name]), name


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_gradient_has_the_layout_of_the_input(layout: torch.memory_format) -> None:
    pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1))
    maps = torch.randn(2, 6, 5, 4).contiguous(memory_format=layout).requires_grad_()
    found: list[Tensor] = []
    # A gradient is stored in the layout of its leaf, so look at it on the way.
    inner = maps * 1.0
    inner.register_hook(found.append)
    weights = torch.arange(6.0).reshape(1, 6, 1, 1)
    with channels_last_pooling_gradients(pooling):
        (pooling(inner) * weights).sum().backward()
    assert found[0].is_contiguous(memory_format=layout)
    assert torch.equal(found[0], (weights / 20).expand(2, 6, 5, 4))


def test_other_sizes_and_evaluation_are_left_alone_and_hooks_are_removed() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool2d((1, 1)))
    maps = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    expected = model(maps)
    with channels_last_pooling_gradients(model):
        assert [len(layer._forward_hooks) for layer in model] == [0, 1]
        assert torch.equal(model(maps), expected)
        assert not model(maps).requires_grad
    assert [len(layer._forward_hooks) for layer in model] == [0, 0]

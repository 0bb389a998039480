"""Widths of a model."""

from torch import nn

from prune.layer_widths import layer_widths


def test_widths(small_net: nn.Module) -> None:
    assert layer_widths(small_net) == {
        "stem": 8, "pointwise": 8, "depthwise": 8, "gate": 8, "head": 5,
    }  # fmt: skip

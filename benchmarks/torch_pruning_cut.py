"""The cut that Torch-Pruning makes, in the place of ours.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023; ``pip install
torch-pruning==1.6.1``. Its L2 importance of a group chooses the channels, its graph removes them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prune.equivalence import check_widths, masked_difference
from prune.layer_widths import layer_widths
from prune.surgery import Cut
from prune.tracing import normalised_layers
from reid_edge.core.cost import conv_and_linear_layers
from reid_edge.core.errors import PruneError


def torch_pruning_cut(
    model: nn.Module,
    widths: Mapping[str, int],
    *,
    example: Tensor,
    check_input: Tensor | None = None,
    **_unused: Any,
) -> Cut:
    """Cut a copy of a model to planned widths, in the place of :func:`prune.surgery.cut`.

    Args:
        model: the model to cut.
        widths: planned output channels by layer.
        example: an input (N, 3, H, W).
        check_input: an input (N, 3, H, W) on which the compact model is compared with the model
            whose surplus channels are silenced; without, ``difference`` is nan.

    Raises:
        PruneError: Torch-Pruning is not installed, or leaves other widths than planned.
    """
    torch_pruning = import_torch_pruning()
    started = time.perf_counter()
    compact = copy.deepcopy(model).cpu().eval()
    layers, now = conv_and_linear_layers(compact), layer_widths(compact)
    ratios = {
        # int(n * (1 - ratio)) channels stay; half a channel guards against rounding.
        layers[name]: 1 - (width + 0.5) / now[name]
        for name, width in widths.items()
        if width < now[name]
    }
    pruner = torch_pruning.pruner.BasePruner(
        compact,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.0,
        pruning_ratio_dict=ratios,
        ignored_layers=[layer for layer in layers.values() if layer not in ratios],
    )
    kept = {name: torch.arange(width) for name, width in now.items()}
    names = {layer: name for name, layer in layers.items()}
    for group in pruner.step(interactive=True):
        for dependency, indices in group:
            name = names.get(dependency.target.module)
            if name is not None and dependency.handler in _output_pruners(torch_pruning):
                remaining = torch.ones(now[name], dtype=torch.bool)
                remaining[list(indices)] = False
                kept[name] = remaining.nonzero().flatten()
        group.prune()
    check_widths(compact, widths)
    seconds = {"surgery": time.perf_counter() - started}
    difference = float("nan")
    if check_input is not None:
        difference = masked_difference(_silenced(model, kept, check_input), compact, check_input)
    return Cut(compact.eval(), kept, {}, [], difference, seconds)


def import_torch_pruning() -> Any:
    """Return the package.

    Raises:
        PruneError: it is not installed.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise PruneError(
            "Torch-Pruning is not installed; pip install torch-pruning==1.6.1"
        ) from error
    return torch_pruning


@torch.no_grad()
def _silenced(model: nn.Module, kept: Mapping[str, Tensor], check_input: Tensor) -> Tensor:
    """Return what a model gives without the channels that go, behind layer and normalisation."""
    masked = copy.deepcopy(model).cpu().eval()
    owners = {name: name for name in kept} | normalised_layers(masked)
    for name, owner in owners.items():
        masked.get_submodule(name).register_forward_hook(_keep_only(kept[owner]))
    output: Tensor = masked(check_input)
    return output


def _keep_only(kept: Tensor) -> Callable[..., Tensor]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        silent = torch.zeros_like(output)
        return silent.index_copy(1, kept, output.index_select(1, kept))

    return hook


def _output_pruners(torch_pruning: Any) -> tuple[Any, ...]:
    functions = torch_pruning.pruner.function
    return (
        functions.prune_conv_out_channels,
        functions.prune_depthwise_conv_out_channels,
        functions.prune_linear_out_channels,
    )

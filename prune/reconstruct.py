"""Reconstruction: least squares makes the compact model imitate the model before the cut.

After the surgery the weights of a layer still expect the removed inputs. This module solves the
weights of each layer again, in forward order, together with the bias or the shift of the
normalisation behind the layer. The solved weights bring the output of the compact layer, computed
from the compact network's own inputs, closest to the full-width layer's output at the kept
channels.

He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, and Luo et al.,
"ThiNet", ICCV 2017, do this for single layers of plain networks. Here every layer is solved, also
depthwise and shared ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from prune.equivalence import TOLERANCE, largest_difference
from prune.in_place import out_of_place
from prune.layer_widths import channel_dimension
from prune.least_squares import RIDGE, solve
from prune.lockstep import Lockstep
from prune.supported import check_on_cpu
from prune.tracing import shift_absorbers, trace
from reid_edge.core.errors import PruneError
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.modes import evaluating
from reid_edge.core.progress import Progress

CHECKED = 2  # images on which a trace is compared with its model


@dataclass(frozen=True)
class LayerFit:
    """How well a layer imitates the same layer before the cut, on the images of reconstruction.

    Attributes:
        before: relative squared error ||compact - full||^2 / ||full||^2 with the weights after the
            surgery; the inputs are those that the layers reconstructed before it give.
        after: the same error with the solved weights; never above ``before``.
    """

    before: float
    after: float


@torch.no_grad()
@freed_memory_kept()
def reconstruct(
    compact: nn.Module,
    full: nn.Module,
    kept: Mapping[str, Tensor],
    images: Tensor,
    *,
    ridge: float = RIDGE,
    progress: Progress | None = None,
) -> dict[str, LayerFit]:
    """Solve the weights of every convolution and linear layer of a compact model again, in place.

    Both networks are evaluated once, node by node in the same order. A module that is called
    several times is solved once for all its calls. Memory holds the live activations of both
    networks for ``images``.

    Args:
        compact: the model after surgery; it is left in evaluation mode.
        full: the model before the cut; it is left as it was. Its BatchNorm statistics must still
            be those of the compact model, because the layers in front of a BatchNorm are solved to
            fit them.
        kept: indices of the kept output channels of ``full``, by layer.
        images: inputs (N, 3, H, W); 96 to 512 are enough.
        ridge: weight of the pull towards the present weights, as a share of the mean diagonal of
            the normal equations.
        progress: called with (layers done, layers in all).

    Returns:
        The fit of every layer that was solved, in the order of the forward pass.

    Raises:
        PruneError: the model's trace does not compute what the model does, the output of a layer
            is not finite, or models and images are not on the CPU.
    """
    check_on_cpu(compact, full, images)
    compact.eval()
    with evaluating(full):
        expected = full(images[:CHECKED])
        if isinstance(expected, Tensor) and not expected.isfinite().all():
            raise PruneError(
                f"the output of {type(full).__name__} is not finite on the images; its weights are "
                "damaged, or its training diverged"
            )
        walk = Lockstep(trace(compact), trace(full), images)
        shifts = shift_absorbers(walk.compact_graph)
        fits: dict[str, LayerFit] = {}
        with out_of_place(walk.compact_graph, walk.full_graph):
            # Layers are fitted to the values of the trace: it has to compute what the model does.
            found = fx.Interpreter(walk.full_graph).run(images[:CHECKED])
            difference = largest_difference(found, expected)
            if not difference <= TOLERANCE:
                raise PruneError(
                    "the weights cannot be solved for: the model and its torch.fx trace differ by "
                    f"{difference:.1e}; does its forward pass change a tensor in place (+=, relu_) "
                    "that it reads again under another name?"
                )
            order = walk.layer_order()
            for number, name in enumerate(order, start=1):
                calls, layer = walk.calls(name), compact.get_submodule(name)
                inputs = [walk.compact_input(call) for call in calls]
                outputs = [walk.full_output(call) for call in calls]
                targets = [
                    out.index_select(channel_dimension(layer), kept[name]) for out in outputs
                ]
                if not all(_is_finite(out) for out in [*inputs, *targets]):
                    raise PruneError(
                        f"{name}: its inputs or outputs are not finite on the images; the model's "
                        "weights are damaged, or its training diverged"
                    )
                fits[name], now = _solve_layer(
                    layer, shifts.get(name), compact, inputs, targets, ridge
                )
                walk.changed(name, now)
                if progress is not None:
                    progress(number, len(order))
        return fits


def _is_finite(values: Tensor) -> bool:
    """Tell whether all values are finite; their sum is computed ten times as fast."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _solve_layer(
    layer: nn.Module,
    absorber: str | None,
    compact: nn.Module,
    inputs: list[Tensor],
    targets: list[Tensor],
    ridge: float,
) -> tuple[LayerFit, list[Tensor]]:
    """Solve a layer in place; return its fit, and its outputs for the inputs."""
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    energy = sum(float(target.pow(2).sum()) for target in targets) or 1.0
    former = [layer(value) for value in inputs]
    before = _squared_error(layer, former, targets)
    weight, bias = layer.weight.clone(), None if layer.bias is None else layer.bias.clone()
    solved, shift = solve(
        layer, inputs, targets, ridge=ridge, shiftable=bias is not None or absorber is not None
    )
    layer.weight.copy_(solved)
    if layer.bias is not None:
        layer.bias.copy_(shift)
    solved_outputs = [layer(value) for value in inputs]
    after = _squared_error(layer, solved_outputs, targets, shift if layer.bias is None else None)
    if not after <= before:
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
        return LayerFit(before / energy, before / energy), former
    if layer.bias is None and absorber is not None:
        # A BatchNorm mean that is lower by the shift has the same effect as the shift.
        compact.get_submodule(absorber).running_mean.sub_(shift)  # type: ignore[operator]
    return LayerFit(before / energy, after / energy), solved_outputs


def _squared_error(
    layer: nn.Module, outputs: list[Tensor], targets: list[Tensor], shift: Tensor | None = None
) -> float:
    total = 0.0
    for output, target in zip(outputs, targets, strict=True):
        if shift is not None:
            output = output + (shift if isinstance(layer, nn.Linear) else shift.view(1, -1, 1, 1))
        total += float(F.mse_loss(output, target, reduction="sum"))
    return total

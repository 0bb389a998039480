"""Is the compact model what the masks promised?"""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prune.layers import Widths, layer_widths
from reid_edge.core.errors import PruneError, reason_of

TOLERANCE = 1e-4


def check_widths(model: nn.Module, planned: Widths) -> None:
    """Check that every layer has its planned width.

    NNI only logs what it cannot handle and goes on, so this is where that shows.

    Raises:
        PruneError: a layer has another width.
    """
    found = layer_widths(model)
    wrong = [name for name, width in planned.items() if found.get(name) != width]
    if wrong:
        name = wrong[0]
        raise PruneError(
            f"after the surgery {name!r} has {found.get(name)} channels where {planned[name]} were "
            f"planned ({len(wrong)} layers differ): this model's graph is not supported, or the "
            "example is so small that NNI takes a channel of a map of one pixel for unused"
        )


@torch.no_grad()
def masked_difference(masked_output: object, compact: nn.Module, check_input: Tensor) -> float:
    """Return max |masked - compact| / max |masked| on an input, in evaluation mode.

    Of a model with several outputs, in a tuple or a dictionary, that of the one that differs most.

    Raises:
        PruneError: the compact model does not run, or the difference is above ``TOLERANCE``.
    """
    try:
        output = compact.eval()(check_input)
    except Exception as error:  # whatever an operation says of sizes that do not fit
        raise PruneError(
            f"the compact model does not run after the surgery: {reason_of(error)}"
        ) from error
    difference = largest_difference(output, masked_output)
    if not difference <= TOLERANCE:
        raise PruneError(
            f"masked and compact model differ by {difference:.1e} (at most {TOLERANCE:.0e} is "
            "rounding): the surgery removed or kept the wrong channels"
        )
    return difference


def largest_difference(output: object, expected: object) -> float:
    """Return max |output - expected| / max |expected|; of several tensors, the largest one.

    Raises:
        PruneError: two tensors are of different shapes.
    """
    pairs = zip(tree_leaves(output), tree_leaves(expected), strict=True)
    differences = [_difference(ours, theirs) for ours, theirs in pairs]
    # Unlike Python's, torch's maximum of numbers with a NaN is NaN.
    return float(torch.tensor(differences, dtype=torch.float64).max())


def _difference(compact: Tensor, masked: Tensor) -> float:
    if compact.shape != masked.shape:
        raise PruneError(
            f"the compact model's output is of shape {tuple(compact.shape)}, where the masked "
            f"one's is of {tuple(masked.shape)}"
        )
    return float((compact - masked).abs().max() / masked.abs().max().clamp_min(1e-12))

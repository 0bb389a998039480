"""Scores of channels by the error that reconstruction cannot compensate."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prune.covariances import AskCovariances, Places, covariances
from prune.elimination import Elimination, eliminate, regression
from prune.layer_widths import Widths, layer_widths
from prune.least_squares import RIDGE
from prune.plans import check_one_width, is_of_one_width
from prune.readers import Reader, find_readers
from prune.supported import check_on_cpu
from reid_edge.core.errors import PruneError
from reid_edge.core.progress import Progress

Readers = dict[tuple[str, ...], list[Reader]]


@torch.no_grad()
def reconstruction_scores(
    model: nn.Module,
    images: Tensor,
    *,
    widths: Widths,
    groups: Sequence[tuple[str, ...]],
    ask: AskCovariances | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Score channels by the order in which backward elimination removes them.

    The score of a channel does not depend on its own size, as norms do. It depends on the error
    that its removal causes in the layers that read it, after the best linear fit to the remaining
    channels (see :mod:`prune.elimination`). The error of each reader is the share of its output's
    energy that is lost. A reader with several taps counts as one pointwise reader a tap.

    Memory holds one matrix (C, C) for each reader of C channels.

    Args:
        model: the model to score; it is left as it was.
        images: inputs (N, 3, H, W); 64 to 128 are enough.
        widths: planned output channels by layer; layers that stay as they are are not scored.
        groups: layers whose channels go together.
        ask: lets other processes take their share of the images; the scores are the same.
        progress: called with (done, total): batches of images.

    Returns:
        Scores (C,) of every output channel, by layer that is cut: 1 for the channel that is removed
        first, C for the last one. Layers of a group have equal scores. Layers that the forward
        pass does not reach are left out.

    Raises:
        PruneError: the graph does not show where a reader has the channels of a cut layer among its
            inputs, or the cut layer shares only a part of its channels with others.
    """
    check_one_width(groups, layer_widths(model), widths)
    readers = _readers_of_cut(model, widths, groups)
    for members, found in readers.items():
        lost = next((reader.name for reader in found if reader.first is None), None)
        if lost is not None:
            raise PruneError(
                f"criterion 'reconstruction' cannot tell where among its inputs {lost!r} reads the "
                f"channels of {members[0]!r} (behind a slice, say): leave that layer untouched, or "
                "take another criterion"
            )
    scores: dict[str, Tensor] = {}
    for members, removed in _eliminations(model, images, readers, ask, progress).items():
        score = torch.ones(len(removed.order))
        score[removed.order] = torch.arange(1.0, len(removed.order) + 1)
        scores |= dict.fromkeys(members, score)
    return scores


@torch.no_grad()
def reconstruction_errors(
    model: nn.Module,
    images: Tensor,
    *,
    groups: Sequence[tuple[str, ...]],
    ask: AskCovariances | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Return the error of the readers of every layer by the number of its removed channels.

    Args:
        model: the model to measure; it is left as it was.
        images: inputs (N, 3, H, W).
        groups: layers whose channels go together.
        ask: lets other processes take their share of the images; the errors are the same.
        progress: called with (done, total): batches of images.

    Returns:
        Squared error (C,) with n channels removed, n from 0, by layer: in units of the readers'
        energy, summed over the readers. Layers of a group have equal errors. Three kinds of layers
        are left out: those whose place among the inputs of a reader is unknown, those that the
        forward pass does not reach, and those that share only a part of their channels with others.
    """
    nothing = dict.fromkeys(layer_widths(model), 0)
    readers = {
        members: found
        for members, found in _readers_of_cut(model, nothing, groups).items()
        if all(reader.first is not None for reader in found)
    }
    errors: dict[str, Tensor] = {}
    for members, found in _eliminations(model, images, readers, ask, progress).items():
        lost = torch.cat([torch.zeros(1, dtype=torch.float64), found.errors[:-1]])
        errors |= dict.fromkeys(members, lost)
    return errors


def _readers_of_cut(model: nn.Module, widths: Widths, groups: Sequence[tuple[str, ...]]) -> Readers:
    """Return the readers of each group that is cut and whose layers have one width."""
    now = layer_widths(model)
    return {
        members: found
        for members, found in find_readers(model, groups).items()
        if is_of_one_width(members, now)
        and any(widths.get(name, now[name]) < now[name] for name in members)
    }


def _eliminations(
    model: nn.Module,
    images: Tensor,
    readers: Readers,
    ask: AskCovariances | None,
    progress: Progress | None,
) -> dict[tuple[str, ...], Elimination]:
    """Return the elimination order of the channels of each group."""
    check_on_cpu(model, images)
    now = layer_widths(model)
    inputs = {reader.name: reader.channels for found in readers.values() for reader in found}
    unread = {members[0]: now[members[0]] for members, found in readers.items() if not found}
    read, left = covariances(model, images, Places(inputs, unread), ask, progress)
    eliminations = {}
    for members, found in readers.items():
        width = now[members[0]]
        fits = []
        for reader in found:
            assert reader.first is not None
            weight: Tensor = model.get_submodule(reader.name).weight  # type: ignore[assignment]
            by_channel = weight.reshape(len(weight), reader.channels, -1)
            part = slice(reader.first, reader.first + width)
            outputs = by_channel[:, part].transpose(1, 2).reshape(-1, width)
            fits.append(regression(read[reader.name][part, part], outputs, ridge=RIDGE))
        if not found:  # nothing reads the channels: no fit can compensate their loss
            fits = [regression(left[members[0]], torch.eye(width), ridge=RIDGE)]
        varying = [fit for fit in fits if fit is not None]
        eliminations[members] = (
            eliminate(varying)
            if varying  # otherwise the removal of every channel costs nothing
            else Elimination(torch.arange(width), torch.zeros(width, dtype=torch.float64))
        )
    return eliminations

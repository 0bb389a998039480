"""Prune a model in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prune.budgets import Distribution, removal_losses, within_limit
from prune.criteria import find_criterion
from prune.criteria.criterion import Criterion, Loss, ScoringData
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.recalibrate import rebase
from prune.reconstruct import reconstruct
from prune.report import IterationReport, report_cut
from prune.surgery import cut
from prune.width_options import width_options
from reid_edge.core.errors import PruneError

CHECK_IMAGES = 4


@dataclass(frozen=True)
class PruneResult:
    """A pruned model and what pruning did. Printed, it is a table of the layers and the totals.

    Attributes:
        model: the compact model, a plain module in evaluation mode on the CPU.
        widths: its output channels by layer; with them an untrained model is brought to the same
            shape, so that it can load the weights.
        kept: indices of the channels of the original that it still has, by layer.
        report: channels, parameters, operations and reconstruction errors before and after.
    """

    model: nn.Module
    widths: dict[str, int]
    kept: dict[str, Tensor]
    report: IterationReport

    def __str__(self) -> str:
        report = self.report
        return (
            f"{report}"
            f"parameters {report.parameters_before:,} -> {report.parameters_after:,}\n"
            f"MACs {report.macs_before:,} -> {report.macs_after:,}\n"
            f"masked against compact {report.masked_compact_difference:.0e}"
        )


def prune(
    model: nn.Module,
    example: Tensor,
    *,
    macs: float | None = None,
    parameters: float | None = None,
    channels: float | None = None,
    widths: Mapping[str, int] | None = None,
    criterion: str | Criterion = "l2",
    images: Tensor | None = None,
    labels: Tensor | None = None,
    loss: Loss | None = None,
    distribution: Distribution = "uniform",
    untouched: Sequence[str] = (),
    multiple: int = 1,
    seed: int = 0,
) -> PruneResult:
    """Remove channels from a model, solve the other weights again, and recalibrate BatchNorm.

    Exactly one of ``macs``, ``parameters``, ``channels`` and ``widths`` says how far to go. With
    ``images`` the weights that stay are solved by least squares so that every layer imitates the
    original, and the BatchNorm statistics become those of the images. Without ``images`` the
    weights stay as they are.

    Args:
        model: any module on the CPU that ``torch.fx`` traces; it is left as it was.
        example: an input (N, 3, H, W) for tracing; operations are counted for its size.
        macs: limit of the multiply-accumulates for one image; up to 1 it is a share of the model's.
        parameters: limit of the parameters that are called; up to 1 it is a share of the model's.
        channels: share of the channels to keep in every layer that may be cut.
        widths: output channels by layer; other layers keep theirs.
        criterion: what ranks channels: a name in :data:`prune.criteria.CRITERIA`, or one's own.
        images: (N, 3, H, W), normalised as in training; 64 to 128 are enough.
        labels: classes (N,) of the images, for a criterion that needs labelled images.
        loss: of (model, images, labels), for the same criteria.
        distribution: of the cuts under a limit of ``macs`` or ``parameters``: the same share of
            channels everywhere, or widths by the loss that they cost.
        untouched: patterns (``features.0.*``) of layers that keep their channels.
        multiple: what widths are rounded to.
        seed: of the criterion and of the images that masked and compact model are compared on.

    Raises:
        PruneError: the arguments do not fit together, the limit cannot be met, a pattern fits no
            layer, the model cannot be pruned, or the compact model does not compute what the
            masked one does.
        ModelError: an operator multiplies that cannot be counted.
    """
    criterion = find_criterion(criterion)
    _check_arguments(macs, parameters, channels, widths, distribution, untouched, multiple)
    data = _scoring_data(criterion, images, labels, loss)
    shape = (2, *example.shape[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    groups = find_groups(model, noise)
    if widths is None:
        options = width_options(
            model, noise, cost_example=example[:1], untouched=untouched, multiple=multiple,
            groups=groups, section="prune()",
        )  # fmt: skip
        if channels is not None:
            widths = options.widths(dict.fromkeys(options.units, channels))
        else:
            losses = None
            if distribution == "by_loss":
                losses = removal_losses(options, model, criterion, data)
            limit = macs if macs is not None else parameters
            assert limit is not None
            widths = within_limit(
                options,
                limit,
                lambda cost: cost.macs if macs is not None else cost.parameters,
                losses,
            )
    result = cut(
        model,
        widths,
        example=noise,
        check_input=noise if images is None else images[:CHECK_IMAGES],
        criterion=criterion,
        data=data,
        seed=seed,
        groups=groups,
    )
    report = report_cut(model, result, widths, example=example[:1], iteration=1, iterations=1)
    if images is not None:
        fits = reconstruct(result.model, model, result.kept, images)
        rebase(result.model, [images])
        report = report.with_reconstruction(fits)
    return PruneResult(result.model, layer_widths(result.model), result.kept, report)


def _check_arguments(
    macs: float | None,
    parameters: float | None,
    channels: float | None,
    widths: Mapping[str, int] | None,
    distribution: Distribution,
    untouched: Sequence[str],
    multiple: int,
) -> None:
    """Check that the arguments say one target, and nothing that the target makes useless.

    Raises:
        PruneError: they do not; the message names the argument.
    """
    targets = {"macs": macs, "parameters": parameters, "channels": channels, "widths": widths}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise PruneError(
            f"prune() takes one of macs, parameters, channels and widths, and was given {found}"
        )
    if channels is not None and not 0 < channels <= 1:
        raise PruneError(f"channels={channels}: expected a share above 0 and up to 1, such as 0.5")
    for name, limit in (("macs", macs), ("parameters", parameters)):
        if limit is not None and not limit > 0:
            raise PruneError(
                f"{name}={limit}: expected a share up to 1, such as 0.4, or a number above 1"
            )
    if distribution == "by_loss" and given[0] not in ("macs", "parameters"):
        raise PruneError(
            f"distribution='by_loss' chooses widths under a limit, and {given[0]} says every "
            "width already; give macs or parameters instead"
        )
    if widths is not None and (untouched or multiple != 1):
        raise PruneError(
            "untouched and multiple have no effect with widths, which say every width already; "
            "leave them out"
        )
    if multiple < 1:
        raise PruneError(f"multiple={multiple}: expected a whole number from 1")


def _scoring_data(
    criterion: Criterion, images: Tensor | None, labels: Tensor | None, loss: Loss | None
) -> ScoringData | None:
    """Return what the criterion is measured on.

    Raises:
        PruneError: the criterion needs images, labels or a loss that are not given.
    """
    if criterion.needs == "weights":
        return None
    if images is None:
        raise PruneError(
            f"criterion {criterion.name!r} is measured on images: pass images=(N, 3, H, W), or "
            "take a criterion that needs weights alone, such as 'l2'"
        )
    if criterion.needs == "images":
        return ScoringData([images])
    if labels is None or loss is None or len(labels) != len(images):
        raise PruneError(
            f"criterion {criterion.name!r} needs the class of every image and a loss: pass "
            f"labels=({len(images)},) and loss=..., a function of (model, images, labels)"
        )
    return ScoringData([images], [labels], loss)

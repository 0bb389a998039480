"""The sparsity report of an iteration: data that knows how to print itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from prune.cut import Cut
from prune.layers import Widths, layer_widths
from prune.reconstruct import LayerFit
from reid_edge.core.cost import layer_costs, model_cost


@dataclass(frozen=True)
class LayerReport:
    """What an iteration did to one layer.

    Attributes:
        name: of the layer.
        group: name of the group whose channels go together, or the layer's own.
        channels_before: output channels before the cut.
        channels_planned: what the plan asked for.
        channels_kept: what there is after the surgery.
        parameters_before: weights and bias before.
        parameters_after: weights and bias after.
        macs_before: multiply-accumulates for one image before.
        macs_after: multiply-accumulates after.
        largest_removed_norm: L2 norm of the layer's strongest removed channel, if any was.
        smallest_kept_norm: L2 norm of its weakest kept channel.
        score_at_cut: group score (relative to each member's mean, averaged) of the strongest
            removed channel, see :mod:`prune.criteria`.
        error_before: relative squared error to the layer's output before this cut, ahead of
            reconstruction, see :class:`prune.reconstruct.LayerFit`; None without reconstruction.
        error_after: the same after it.
    """

    name: str
    group: str
    channels_before: int
    channels_planned: int
    channels_kept: int
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    largest_removed_norm: float | None
    smallest_kept_norm: float | None
    score_at_cut: float | None
    error_before: float | None = None
    error_after: float | None = None


@dataclass(frozen=True)
class IterationReport:
    """What one prune iteration removed, what that cost, and how long it took.

    Attributes:
        iteration: from 1 to ``iterations``.
        iterations: K.
        layers: one report a layer, in the order of the forward pass.
        parameters_before: of the whole embedding network.
        parameters_after: likewise.
        macs_before: of the whole embedding network, one image.
        macs_after: likewise.
        masked_compact_difference: maximal relative error of masked against compact model.
        accuracy: measured values by step (before, after surgery, ...), each a dictionary with
            ``mAP``, ``rank1`` and other measures.
        distance: between embeddings, for the accuracy.
        measure: which value of the accuracy is shown.
        seconds: of each step.
        hints: by step, relative squared error of every stage's output to the full-width model's
            at the kept channels, see :func:`prune.hints.hint_errors`.
        tuning_rounds: how often it was tuned; more than once beyond an accuracy budget.
        validated: mAP by step on the identities set apart, which an accuracy budget is judged by;
            empty without a budget, or where none are set apart.
    """

    iteration: int
    iterations: int
    layers: tuple[LayerReport, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    masked_compact_difference: float
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    distance: str = "cosine"
    measure: str = "mAP"
    seconds: dict[str, float] = field(default_factory=dict)
    hints: dict[str, dict[str, float]] = field(default_factory=dict)
    tuning_rounds: int = 1
    validated: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "IterationReport":
        """Rebuild a report from :meth:`to_dict`."""
        layers = tuple(LayerReport(**layer) for layer in content["layers"])
        return cls(**{**content, "layers": layers})

    def table(self) -> Table:
        """Return the layers as a table."""
        table = Table(
            title=f"Iteration {self.iteration} of {self.iterations}", title_justify="left"
        )
        table.add_column("layer", no_wrap=True)
        table.add_column("group", no_wrap=True, overflow="ellipsis", max_width=18)
        for heading in (
            "before", "planned", "kept", "parameters", "MACs", "removed", "norm at the cut",
            "output error",
        ):  # fmt: skip
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in self.layers:
            table.add_row(*_cells(layer))
        table.add_section()
        table.add_row(
            "whole model", "", "", "", "",
            f"{self.parameters_after:,}", _millions(self.macs_after),
            f"{1 - self.macs_after / self.macs_before:.0%} of MACs", "", "",
        )  # fmt: skip
        return table

    def with_reconstruction(self, fits: Mapping[str, LayerFit]) -> "IterationReport":
        """Return the report with how well each layer imitates itself before the cut."""
        layers = tuple(
            replace(layer, error_before=fits[layer.name].before, error_after=fits[layer.name].after)
            if layer.name in fits
            else layer
            for layer in self.layers
        )
        return replace(self, layers=layers)

    def summary(self) -> str:
        """Return the totals, the accuracy and the times in a few lines."""
        accuracy = " -> ".join(
            f"{step.replace('_', ' ')} {values[self.measure]:.1%}"
            for step, values in self.accuracy.items()
            if self.measure in values
        )
        seconds = ", ".join(f"{step} {value:.1f}" for step, value in self.seconds.items())
        return (
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,}, "
            f"MACs {_millions(self.macs_before)} -> {_millions(self.macs_after)}, "
            f"masked against compact {self.masked_compact_difference:.1e}\n"
            f"{self.measure} ({self.distance}): {accuracy}\n"
            f"{self._validation_line()}{self._hint_line()}seconds: {seconds}"
        )

    def _validation_line(self) -> str:
        if not self.validated:
            return ""
        steps = " -> ".join(
            f"{step.replace('_', ' ')} {value:.1%}" for step, value in self.validated.items()
        )
        return f"mAP on the identities set apart, for the budget: {steps}\n"

    def _hint_line(self) -> str:
        if not self.hints:
            return ""
        before, after = (self.hints.get(step, {}) for step in ("before_tuning", "after_tuning"))
        stages = ", ".join(
            f"{stage} {error:.3f}" + (f" -> {after[stage]:.3f}" if stage in after else "")
            for stage, error in before.items()
        )
        return f"stage error before -> after tuning: {stages}\n"


def _cells(layer: LayerReport) -> list[str]:
    removed = 1 - layer.channels_kept / layer.channels_before
    cut = (
        f"{layer.largest_removed_norm:.3f} | {layer.smallest_kept_norm:.3f}"
        if layer.largest_removed_norm is not None and layer.smallest_kept_norm is not None
        else "-"
    )
    return [
        layer.name,
        layer.group if layer.group != layer.name else "",
        str(layer.channels_before),
        str(layer.channels_planned),
        str(layer.channels_kept),
        f"{layer.parameters_after:,}",
        _millions(layer.macs_after),
        f"{removed:.0%}",
        cut,
        _error(layer),
    ]


def _error(layer: LayerReport) -> str:
    if layer.error_before is None or layer.error_after is None:
        return "-"
    return f"{layer.error_before:.3f} -> {layer.error_after:.3f}"


def _millions(value: int) -> str:
    return f"{value / 1e6:.1f} M"


def report_cut(
    before: nn.Module,
    result: Cut,
    planned: Widths,
    *,
    example: Tensor,
    iteration: int,
    iterations: int,
) -> IterationReport:
    """Describe a cut layer by layer.

    Args:
        before: the model that was cut.
        result: what :func:`prune.cut.cut` returned.
        planned: the widths that were asked for.
        example: input (1, 3, H, W); operations are counted for its size.
        iteration: from 1.
        iterations: K.
    """
    widths_before, widths_after = layer_widths(before), layer_widths(result.model)
    costs_before, costs_after = layer_costs(before, example), layer_costs(result.model, example)
    group_of = {name: members[0] for members in result.groups for name in members}
    layers = []
    for name in costs_before:
        removed_norm, kept_norm = _norms_at_cut(before, name, result.kept[name])
        layers.append(
            LayerReport(
                name=name,
                group=group_of.get(name, name),
                channels_before=widths_before[name],
                channels_planned=planned.get(name, widths_before[name]),
                channels_kept=widths_after[name],
                parameters_before=costs_before[name].parameters,
                parameters_after=costs_after[name].parameters,
                macs_before=costs_before[name].macs,
                macs_after=costs_after[name].macs,
                largest_removed_norm=removed_norm,
                smallest_kept_norm=kept_norm,
                score_at_cut=_score_at_cut(result, name),
            )
        )
    total_before, total_after = model_cost(before, example), model_cost(result.model, example)
    return IterationReport(
        iteration=iteration,
        iterations=iterations,
        layers=tuple(layers),
        parameters_before=total_before.parameters,
        parameters_after=total_after.parameters,
        macs_before=total_before.macs,
        macs_after=total_after.macs,
        masked_compact_difference=result.difference,
        seconds=dict(result.seconds),
    )


def _norms_at_cut(model: nn.Module, name: str, kept: Tensor) -> tuple[float | None, float | None]:
    weight: Tensor = model.get_submodule(name).weight.detach().cpu()  # type: ignore[operator]
    norms = weight.flatten(1).norm(dim=1)
    removed = norms[_complement(kept, len(norms))]
    if not len(removed):
        return None, None
    return float(removed.max()), float(norms[kept].min())


def _score_at_cut(result: Cut, name: str) -> float | None:
    scores = result.scores.get(name)
    if scores is None:
        return None
    removed = scores.cpu()[_complement(result.kept[name], len(scores))]
    return float(removed.max()) if len(removed) else None


def _complement(kept: Tensor, count: int) -> Tensor:
    mask = torch.ones(count, dtype=torch.bool)
    mask[kept] = False
    return mask

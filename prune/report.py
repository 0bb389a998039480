"""The report of an iteration: the removed channels of each layer, as JSON and as a table."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from prune.layer_widths import Widths, layer_widths
from prune.reconstruct import LayerFit
from prune.surgery import Cut
from reid_edge.core.cost import layer_costs, model_cost
from reid_edge.core.errors import PruneError
from reid_edge.core.io import write_json
from reid_edge.core.tables import FittingTable


class LayerReport(BaseModel):
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

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class IterationReport(BaseModel):
    """What one prune iteration removed, what that cost, and how long it took.

    Attributes:
        schema_version: of the JSON file.
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
        tuning_rounds: number of tunings; more than one if an accuracy budget was exceeded.
        validated: mAP by step on the validation identities, for the accuracy budget; empty without
            a budget or without validation identities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    iteration: int
    iterations: int
    layers: tuple[LayerReport, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    masked_compact_difference: float
    accuracy: dict[str, dict[str, float]] = {}
    distance: str = "cosine"
    measure: str = "mAP"
    seconds: dict[str, float] = {}
    hints: dict[str, dict[str, float]] = {}
    tuning_rounds: int = 1
    validated: dict[str, float] = {}

    def with_reconstruction(self, fits: Mapping[str, LayerFit]) -> IterationReport:
        """Return the report with the reconstruction errors of each layer."""
        layers = tuple(
            layer.model_copy(
                update={
                    "error_before": fits[layer.name].before,
                    "error_after": fits[layer.name].after,
                }
            )
            if layer.name in fits
            else layer
            for layer in self.layers
        )
        return self.model_copy(update={"layers": layers})

    @property
    def title(self) -> str:
        """Return which iteration it is, of how many."""
        return f"Iteration {self.iteration} of {self.iterations}"

    def table(self) -> FittingTable:
        """Return the layers as a table for the terminal."""
        rows = []
        for layer in self.layers:
            norms = layer.largest_removed_norm, layer.smallest_kept_norm
            errors = layer.error_before, layer.error_after
            rows.append(
                (
                    layer.name,
                    layer.group if layer.group != layer.name else "",
                    str(layer.channels_before),
                    str(layer.channels_planned),
                    str(layer.channels_kept),
                    f"{layer.parameters_after:,}",
                    _millions(layer.macs_after),
                    f"{1 - layer.channels_kept / layer.channels_before:.0%}",
                    "-" if None in norms else f"{norms[0]:.3f} | {norms[1]:.3f}",
                    "-" if None in errors else f"{errors[0]:.3f} -> {errors[1]:.3f}",
                )
            )
        return FittingTable(
            self.title,
            [
                "layer", "group", "before", "planned", "kept", "parameters", "MACs", "removed",
                "norm at the cut", "output error",
            ],
            rows,
            footer=(
                "whole model", "", "", "", "",
                f"{self.parameters_after:,}", _millions(self.macs_after),
                f"{1 - self.macs_after / self.macs_before:.0%} of MACs", "", "",
            ),
            left=2,
            drop=["group", "norm at the cut", "planned", "output error", "MACs", "parameters"],
        )  # fmt: skip

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, soft_wrap=True).print(self.table())
        return text.getvalue()

    def summary(self) -> str:
        """Return the totals, the accuracy and the times in a few lines."""
        accuracy = " -> ".join(
            f"{step.replace('_', ' ')} {values[self.measure]:.1%}"
            for step, values in self.accuracy.items()
            if self.measure in values
        )
        lines = [
            f"parameters {self.parameters_before:,} -> {self.parameters_after:,}, "
            f"MACs {_millions(self.macs_before)} -> {_millions(self.macs_after)}, "
            f"masked against compact {self.masked_compact_difference:.1e}",
            f"{self.measure} ({self.distance}): {accuracy}",
        ]
        if self.validated:
            steps = (f"{step.replace('_', ' ')} {mAP:.1%}" for step, mAP in self.validated.items())
            lines.append(f"mAP on the identities set apart, for the budget: {' -> '.join(steps)}")
        if self.hints:
            before, after = (self.hints.get(step, {}) for step in ("before_tuning", "after_tuning"))
            stages = ", ".join(
                f"{stage} {error:.3f}" + (f" -> {after[stage]:.3f}" if stage in after else "")
                for stage, error in before.items()
            )
            lines.append(f"stage error before -> after tuning: {stages}")
        seconds = ", ".join(f"{step} {value:.1f}" for step, value in self.seconds.items())
        return "\n".join([*lines, f"seconds: {seconds}"])


def _millions(value: int) -> str:
    return f"{value / 1e6:.1f} M"


def write_report(path: Path, report: IterationReport) -> None:
    """Write a report as JSON, whole or not at all."""
    write_json(path, report.model_dump(mode="json"))


def read_report(path: Path) -> IterationReport:
    """Read a report.

    Raises:
        PruneError: the file is not there or is no report; the message names the file and the key.
    """
    try:
        return IterationReport.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PruneError(f"{path}: cannot read this report; run the iteration again") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = " / ".join(str(part) for part in first["loc"])
        raise PruneError(
            f"{path}: no report of an iteration ({key or 'content'}: {first['msg']}); run the "
            "iteration again"
        ) from error


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
        result: what :func:`prune.surgery.cut` returned.
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
        weight: Tensor = before.get_submodule(name).weight.detach().cpu()  # type: ignore[operator]
        norms, kept = weight.flatten(1).norm(dim=1), result.kept[name]
        removed = torch.ones(len(norms), dtype=torch.bool)
        removed[kept] = False
        is_cut, scores = bool(removed.any()), result.scores.get(name)
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
                largest_removed_norm=float(norms[removed].max()) if is_cut else None,
                smallest_kept_norm=float(norms[kept].min()) if is_cut else None,
                score_at_cut=(
                    float(scores.cpu()[removed].max()) if is_cut and scores is not None else None
                ),
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

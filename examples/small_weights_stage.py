"""A stage: the share of small weights in every layer of the latest model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.settings.section import Settings
from pipeline.stage import ReportSection, Stage
from pipeline.stage_results import StageRecord, StageResult
from reid_edge.core.io import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.context import StageContext


class SmallWeightsSettings(Settings):
    """Section ``small_weights`` of the settings."""

    below: float = Field(1e-3, gt=0, description="weights below this absolute value are small")


class SmallWeightsResult(StageResult):
    """What the stage returns; it is in ``stage.json`` and in ``report.json``.

    Attributes:
        shares: of small weights, by layer.
    """

    shares: dict[str, float]


def run(context: StageContext[SmallWeightsSettings]) -> SmallWeightsResult:
    """Write ``small_weights.json``: the share of small weights by layer."""
    from reid_edge.core.cost import conv_and_linear_layers

    model, _ = context.load_parent()
    shares = {
        name: float((layer.weight.abs() < context.settings.below).float().mean())
        for name, layer in conv_and_linear_layers(model).items()
    }
    write_json(context.folder / "small_weights.json", shares)
    worst = max(shares, key=shares.__getitem__)
    note = f"{shares[worst]:.1%} of the weights of {worst} are small"
    return SmallWeightsResult(shares=shares, note=note)


def show_shares(record: StageRecord) -> list[Table]:
    """Return the table that the terminal shows below the closing table."""
    from rich.table import Table

    table = Table("layer", "small weights", title="Small weights by layer")
    for layer, share in record.result_as(SmallWeightsResult).shares.items():
        table.add_row(layer, f"{share:.1%}")
    return [table]


SMALL_WEIGHTS: Stage[SmallWeightsSettings] = Stage(
    name="small_weights",
    summary="count small weights",
    settings=SmallWeightsSettings,
    run=run,
    result=SmallWeightsResult,
    after="finetune",
    report=ReportSection(tables=show_shares),
)

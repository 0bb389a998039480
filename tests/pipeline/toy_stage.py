"""A stage of one's own: it counts the parameters of every layer of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from rich.table import Table

from pipeline.settings.section import Settings
from pipeline.stage import ReportSection, Stage
from pipeline.stage_results import Result, StageRecord, StageResult
from reid_edge.core.io import write_bytes

if TYPE_CHECKING:
    from pipeline.context import StageContext


class CountSettings(Settings):
    """Section ``count`` of the settings."""

    smallest: int = Field(0, ge=0, description="leave out layers with fewer parameters")


class LayerCount(Result):
    """The parameters of one layer."""

    layer: str
    parameters: int


class CountResult(StageResult):
    """What the stage returns; it is in ``stage.json`` and in ``report.json``."""

    layers: tuple[LayerCount, ...]


def run(context: StageContext[CountSettings]) -> CountResult:
    """Count, and write ``count.json``."""
    model, _ = context.load_parent()
    counts = {
        name: sum(value.numel() for value in module.parameters(recurse=False))
        for name, module in model.named_modules()
    }
    result = CountResult(
        layers=tuple(
            LayerCount(layer=name, parameters=count)
            for name, count in counts.items()
            if count > context.settings.smallest
        )
    )
    write_bytes(context.folder / "count.json", result.to_json())
    return result


def table(record: StageRecord) -> list[Table]:
    """Return what the terminal shows below the closing table."""
    shown = Table("layer", "parameters", title="Parameters by layer")
    for row in record.result_as(CountResult).layers:
        shown.add_row(row.layer, f"{row.parameters:,}")
    return [shown]


COUNT = Stage(
    name="count",
    summary="count the parameters of every layer",
    settings=CountSettings,
    run=run,
    result=CountResult,
    after="finetune",
    report=ReportSection(tables=table),
)

"""The adaptation in the report: which model stayed and why, the figures, and the clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.adapt_results import AdaptResult
from pipeline.stage import ReportSection
from reid_edge.core.tables import FittingTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.stage_results import StageRecord


def _tables(record: StageRecord) -> Sequence[FittingTable]:
    figures = record.result_as(AdaptResult).adaptation.figures
    if not figures:
        return []
    return [
        FittingTable(
            "Adaptation, on images set apart, without labels",
            ["figure", "before", "after", "has to be"],
            [
                (
                    figure.name,
                    f"{figure.before:.3f}",
                    f"{figure.after:.3f}",
                    "better" if figure.decides else "not much worse",
                )
                for figure in figures
            ],
        )
    ]


ADAPT_SECTION = ReportSection(tables=_tables, template="adapt.html.j2")

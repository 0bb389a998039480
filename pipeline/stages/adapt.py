"""Stage ``adapt``: the full-width model learns the site from images that nobody has labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.stage import Stage
from reid_edge.adaptation.adaptation_settings import AdaptationSettings

if TYPE_CHECKING:
    from pipeline.adapt_results import AdaptResult
    from pipeline.config import Config
    from pipeline.context import StageContext
    from reid_edge.data.schema import ReidData


class AdaptStage(AdaptationSettings):
    """Stage ``adapt``: the full-width model learns the images to train on, without labels."""

    apart_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="share of the training images that judge the adapted model, if the data set "
        "has identities; without identities those that data.test_share sets apart judge it",
    )
    judge: bool = Field(
        True,
        description="look the images over, and keep the model from before where the adapted one is "
        "not better on images set apart; false: keep the adapted one",
    )


def run(context: StageContext[AdaptStage]) -> AdaptResult:
    """Adapt, judge, write ``checkpoint.pt``, ``metrics.json`` and ``adaptation.json``."""
    from pipeline.stages.adaptation import adapt_stage

    return adapt_stage(context)


def _check_data(config: Config, data: ReidData) -> None:
    from pipeline.stages.adaptation import check_adaptable

    check_adaptable(config.of(ADAPT), data)


ADAPT: Stage[AdaptStage] = Stage(
    name="adapt",
    summary="let the full-width model learn the site from its images, without labels",
    settings=AdaptStage,
    run=run,
    result="pipeline.adapt_results:AdaptResult",
    model="changes",
    teaches=True,
    own_labels=True,
    trainings=lambda _: [],
    check_data=_check_data,
    report="pipeline.report.adapt_section:ADAPT_SECTION",
)

"""Stage ``adapt``: the full-width model learns the site from images that nobody has labelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.stage import Stage, StageWork, judged_images
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


def _check(config: Config) -> None:
    from pipeline.preflight import check_precision

    check_precision("adapt", config.of(ADAPT).precision, config)


def _check_data(config: Config, data: ReidData) -> None:
    from pipeline.stages.adaptation import check_adaptable

    check_adaptable(config.of(ADAPT), data)


def _work(config: Config, data: ReidData) -> StageWork:
    """Return the images of the epochs, each of which embeds all of them and trains with them."""
    settings = config.of(ADAPT)
    images = len(data.train)
    if data.labels == "persons":
        images -= round(settings.apart_share * images)
    trained = images if settings.steps is None else settings.steps * settings.batch
    return StageWork(
        trained=settings.epochs * trained,
        evaluated=settings.epochs * images + judged_images(data),
        precision=settings.precision,
    )


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
    work=_work,
    check=_check,
    check_data=_check_data,
    report="pipeline.report.adapt_section:ADAPT_SECTION",
)

"""The work of the stage ``adapt``: adapt a model, judge it, keep it or the one from before."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.adapt_results import Adaptation, AdaptationEpoch, AdaptationFigure, AdaptResult
from pipeline.context import StageContext
from pipeline.found_images import FOUND
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stages.adapt import AdaptStage
from pipeline.stages.common import finish_model
from reid_edge.adaptation.adapt import AdaptConfig
from reid_edge.adaptation.decision import adapt_and_judge
from reid_edge.adaptation.site import site_of
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_bytes
from reid_edge.data.held_out import FEWEST_IMAGES, hold_out
from reid_edge.data.schema import ReidData, Sample

ADAPTATION_FILE = "adaptation.json"

logger = logging.getLogger(__name__)


def check_adaptable(settings: AdaptStage, data: ReidData) -> None:
    """Check that there are enough images to adapt to.

    Raises:
        PipelineError: there are too few.
    """
    images, least = len(data.train), max(FEWEST_IMAGES, settings.batch)
    if data.labels != "persons":
        images += len(data.query)
        least = FEWEST_IMAGES
    if images < least:
        raise PipelineError(
            f"adapt: {images} images, and a model is adapted to {least} or more; give more images "
            "or leave adapt out of --stages"
        )


def adapt_stage(context: StageContext[AdaptStage]) -> AdaptResult:
    """Adapt the parent's model; keep it where it is better on images set apart.

    Raises:
        DataError: the images are all alike.
        ModelError: the model's embeddings of these images are all alike.
    """
    settings = context.settings
    given, info = context.load_parent()
    learned, apart = images_of(context)
    config = AdaptConfig(
        images=learned,
        site=site_of(learned, context.data),
        settings=settings,
        height=context.input_size[0],
        width=context.input_size[1],
        seed=context.seed("draws"),
        folder=context.folder,
        label=context.stage,
        log=context.config.metric_files,
        accelerator=context.device,
        workers=context.config.data.workers,
        embedding_batch=context.config.data.evaluation_batch,
        after_epoch=context.progress,
        work=context.work,
    )
    outcome = adapt_and_judge(
        given, config, apart, site_of(apart, context.data), judged=settings.judge
    )
    better = outcome.model is not None and outcome.better
    note = (
        f"adapt: the adapted model is kept: {outcome.reason}"
        if better
        else f"adapt: the model from before stays: {outcome.reason}"
    )
    (logger.info if better else logger.warning)("%s", note)
    adaptation = Adaptation(
        kept="adapted" if better else "given",
        reason=outcome.reason,
        images=len(learned),
        apart=len(apart),
        epochs=tuple(AdaptationEpoch(**asdict(epoch)) for epoch in outcome.epochs),
        figures=tuple(AdaptationFigure(**asdict(figure)) for figure in outcome.figures),
    )
    write_bytes(context.folder / ADAPTATION_FILE, adaptation.to_json())
    model = outcome.model if better and outcome.model is not None else given
    metrics = evaluate_stage(model, context, found=context.folder / FOUND)
    made = finish_model(context, model, info.architecture, metrics)
    return AdaptResult(**{**made.__dict__, "note": note, "adaptation": adaptation})


def images_of(context: StageContext[AdaptStage]) -> tuple[list[Sample], list[Sample]]:
    """Return the images to learn from and those that judge; persons are not looked at."""
    data = context.data
    if data.labels == "persons":
        bare = replace(
            data,
            # Merged sets are in several folders.
            root=Path(os.path.commonpath([image.path.parent for image in data.train])),
            train=tuple(replace(image, person=0) for image in data.train),
            query=(),
            gallery=(),
            labels="none",
        )
        data = hold_out(bare, context.settings.apart_share, context.seed("apart"))
    return list(data.train), list(data.query)

"""Adapt a model where the images allow it, and decide whether the adapted one is kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor, nn

from reid_edge.adaptation.adapt import AdaptConfig, ClusteredEpoch, adapt, read_clusters
from reid_edge.adaptation.judgement import Figure, judge
from reid_edge.adaptation.site import Site
from reid_edge.adaptation.site_views import embed_changed, measure_separation
from reid_edge.core.errors import DivergenceError, ModelError, TrainingError, one_line
from reid_edge.core.seeding import derive_seed
from reid_edge.data.schema import Sample
from reid_edge.inference.features import embed_images


@dataclass(frozen=True)
class Outcome:
    """An adaptation and what it was judged by.

    Attributes:
        model: the adapted model; None if it was not adapted.
        better: whether it is better on images set apart.
        reason: why, or why not, in one line.
        figures: what was compared.
        epochs: the clusters of every epoch.
        separation: distance of an image to a changed copy, as a share of that to other images;
            None if it was not measured.
    """

    model: nn.Module | None
    better: bool
    reason: str
    figures: tuple[Figure, ...] = ()
    epochs: tuple[ClusteredEpoch, ...] = ()
    separation: float | None = None


def adapt_and_judge(
    given: nn.Module,
    config: AdaptConfig,
    apart: Sequence[Sample],
    site: Site,
    *,
    judged: bool = True,
) -> Outcome:
    """Adapt a copy of a model and judge it on images set apart.

    It is not adapted where the images do not show several persons, where they are all of one
    camera, or where there are too few clusters.

    Args:
        given: the model; it stays as it is.
        config: what it learns from, how, and where the state is kept.
        apart: images that it does not learn from.
        site: cameras and tracks of ``apart``.
        judged: false: the images are not looked over, and the adapted model counts as better.

    Raises:
        DataError: the images are all alike, or one cannot be read.
        ModelError: the model's embeddings of the images are all alike.
    """
    if not judged:
        return _adapt(given, config)
    separation = measure_separation(
        given,
        config.images,
        height=config.height,
        width=config.width,
        seed=derive_seed(config.seed, "changes"),
        device=config.accelerator,
    )
    given.cpu()
    reason = separation.problem or _one_camera(config.site)
    outcome = Outcome(None, False, reason) if reason else _adapt(given, config)
    outcome = replace(outcome, separation=separation.ratio)
    if outcome.model is None:
        return outcome
    before = _embed_both(given, config, apart, "the model from before")
    try:
        after = _embed_both(outcome.model, config, apart, "the adapted model")
    except ModelError as error:
        reason = f"the adapted model cannot be used: {one_line(error)}"
        return replace(outcome, better=False, reason=reason)
    found = judge(before, after, site)
    return replace(outcome, better=found.better, reason=found.reason, figures=found.figures)


def _adapt(given: nn.Module, config: AdaptConfig) -> Outcome:
    """Adapt a copy of a model; it is not judged yet."""
    adapted = copy.deepcopy(given)
    try:
        epochs = tuple(adapt(adapted, config))
    except (TrainingError, DivergenceError) as error:
        return Outcome(None, False, one_line(error), epochs=tuple(read_clusters(config.folder)))
    return Outcome(adapted, True, "it was not judged (adapt.judge is false)", epochs=epochs)


def _one_camera(site: Site) -> str:
    """Return why images of one camera are not adapted to; empty if they are of several."""
    if site.cameras is None or site.tracks is not None or len(np.unique(site.cameras)) > 1:
        return ""
    return (
        "all images are of one camera and without tracks: nothing says which of them show one "
        "person at another place"
    )


def _embed_both(
    model: nn.Module, config: AdaptConfig, images: Sequence[Sample], called: str
) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, D) of images and of changed copies."""
    report = config.work(f"{config.label}: judging {called}")
    plain = embed_images(
        model,
        images,
        height=config.height,
        width=config.width,
        batch_size=config.embedding_batch,
        workers=config.workers,
        device=config.accelerator,
        progress=lambda done, count: report(done, 2 * count),
    )
    changed = embed_changed(
        model,
        images,
        height=config.height,
        width=config.width,
        seed=derive_seed(config.seed, "apart"),
        device=config.accelerator,
        progress=lambda done, count: report(count + done, 2 * count),
    )
    model.cpu()
    return plain, changed

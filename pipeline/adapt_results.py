"""What the stage ``adapt`` returns."""

from __future__ import annotations

from pipeline.stage_results import Result, StageResult


class AdaptationFigure(Result):
    """A label-free figure of images set apart, before and after the adaptation.

    Attributes:
        name: what it says, in words.
        before: of the model that the stage started from.
        after: of the adapted model.
        decides: whether the adapted model has to be better in it; otherwise it must not be much
            worse.
    """

    name: str
    before: float
    after: float
    decides: bool


class AdaptationEpoch(Result):
    """The clusters that an epoch learned from.

    Attributes:
        epoch: from 1.
        clusters: number of clusters.
        outliers: number of images in no cluster.
        largest: number of images in the largest cluster.
    """

    epoch: int
    clusters: int
    outliers: int
    largest: int


class Adaptation(Result):
    """The course and the outcome of an adaptation (``adaptation.json``).

    Attributes:
        kept: "adapted", or "given" where the model from before stays.
        reason: why, in one line.
        images: number of images that were learned from.
        apart: number of images that judged.
        epochs: the clusters of each epoch.
        figures: what was compared; empty where it did not come to that.
    """

    kept: str
    reason: str
    images: int
    apart: int
    epochs: tuple[AdaptationEpoch, ...]
    figures: tuple[AdaptationFigure, ...]


class AdaptResult(StageResult):
    """What the stage ``adapt`` returns."""

    adaptation: Adaptation

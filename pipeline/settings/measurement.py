"""Sections ``evaluation``, ``latency`` and ``report``: how models are compared, timed and shown."""

from typing import Literal

from pydantic import Field

from pipeline.settings.section import Settings


class EvaluationSettings(Settings):
    """How models are compared."""

    task: Literal["person", "face"] = Field(
        "person",
        description="which metrics the tables show: mAP and rank-1 (person), or equal error rate, "
        "true accepts and rank-1 (face). Both are always measured",
    )
    distance: Literal["cosine", "euclidean"] = Field(
        "cosine",
        description="distance between embeddings: cosine, or euclidean (the default of torchreid)",
    )


class LatencySettings(Settings):
    """The closing measurement."""

    rounds: int = Field(30, ge=2, description="timed calls of each model, in turn")
    threads: int = Field(1, ge=1, description="threads of each call")


class ReportSettings(Settings):
    """The page."""

    images: bool = Field(
        True,
        description="whether report.html has small copies of test images with what each query "
        "finds; false for a page that is passed on without images of persons",
    )

"""Section ``evaluation``: how models are compared."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Settings


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

"""Section ``evaluation``: how models are compared."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Settings


class EvaluationSettings(Settings):
    """How models are compared."""

    task: Literal["person", "face"] = Field(
        "person",
        description="which measures the tables show: mAP and rank-1 of persons; equal error rate, "
        "true accepts and rank-1 of faces. Both are always measured",
    )
    distance: Literal["cosine", "euclidean"] = Field(
        "cosine", description="between embeddings; torchreid's default is euclidean"
    )

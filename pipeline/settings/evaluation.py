"""Section ``evaluation``: how models are compared."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Settings


class EvaluationSettings(Settings):
    """How models are compared."""

    task: Literal["person", "face"] = Field(
        "person",
        description="which measures the tables show: mAP and rank-1 (person), or equal error rate, "
        "true accepts and rank-1 (face). Both are always measured",
    )
    distance: Literal["cosine", "euclidean"] = Field(
        "cosine",
        description="between embeddings: cosine or euclidean, which is torchreid's default",
    )

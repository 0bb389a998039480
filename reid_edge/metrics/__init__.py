"""Measures of re-identification: ranking (CMC, mAP, mINP) and verification (EER, TAR@FAR).

The names below are imported when they are used: the results (`reid_edge.metrics.results`) do not
need PyTorch, everything that computes them does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_edge.metrics.distances import cosine_distance, euclidean_distance
    from reid_edge.metrics.label_free import Tracks, evaluate_label_free
    from reid_edge.metrics.pairs import PairScores, pair_scores, pair_scores_within
    from reid_edge.metrics.ranking import evaluate_ranking
    from reid_edge.metrics.results import (
        DISTANCES,
        Distance,
        Evaluation,
        LabelFreeResult,
        OperatingPoint,
        RankingResult,
        TrackResult,
        VerificationResult,
    )
    from reid_edge.metrics.verification import evaluate_verification

__all__ = [
    "DISTANCES",
    "Distance",
    "Evaluation",
    "LabelFreeResult",
    "OperatingPoint",
    "PairScores",
    "RankingResult",
    "TrackResult",
    "Tracks",
    "VerificationResult",
    "cosine_distance",
    "euclidean_distance",
    "evaluate_label_free",
    "evaluate_ranking",
    "evaluate_verification",
    "pair_scores",
    "pair_scores_within",
]

_MODULES = {
    "PairScores": "pairs",
    "Tracks": "label_free",
    "cosine_distance": "distances",
    "euclidean_distance": "distances",
    "evaluate_label_free": "label_free",
    "evaluate_ranking": "ranking",
    "evaluate_verification": "verification",
    "pair_scores": "pairs",
    "pair_scores_within": "pairs",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'results')}"), name)

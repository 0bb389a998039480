"""Measures of re-identification: ranking (CMC, mAP, mINP) and verification (EER, TAR@FAR)."""

from reid_edge.data.schema import PROTOCOLS, Protocol
from reid_edge.metrics.distances import DISTANCES, Distance, cosine_distance, euclidean_distance
from reid_edge.metrics.pairs import PairScores, pair_scores, pair_scores_within
from reid_edge.metrics.ranking import RankingResult, evaluate_ranking
from reid_edge.metrics.verification import OperatingPoint, VerificationResult, evaluate_verification

__all__ = [
    "DISTANCES",
    "PROTOCOLS",
    "Distance",
    "OperatingPoint",
    "PairScores",
    "Protocol",
    "RankingResult",
    "VerificationResult",
    "cosine_distance",
    "euclidean_distance",
    "evaluate_ranking",
    "evaluate_verification",
    "pair_scores",
    "pair_scores_within",
]

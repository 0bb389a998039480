"""Measuring a model on a data set: ranking, verification, and their curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from reid_edge.core.errors import DataError
from reid_edge.core.io import write_json
from reid_edge.core.progress import Progress
from reid_edge.data.schema import ReidData, check_evaluable, label_tensors
from reid_edge.inference.embedder import Embedder, embed_files
from reid_edge.inference.query_list import write_query_list
from reid_edge.inference.verification_pairs import verification_pairs
from reid_edge.metrics import (
    Distance,
    PairScores,
    Protocol,
    RankingResult,
    VerificationResult,
    evaluate_ranking,
    evaluate_verification,
)
from reid_edge.metrics.curves import roc_curve, write_cmc, write_roc
from reid_edge.metrics.query_rankings import QueryRanking, rank_queries
from reid_edge.metrics.ranking import check_options
from reid_edge.metrics.ranking_by_distances import evaluate_distances
from reid_edge.metrics.reranking import rerank
from reid_edge.metrics.verification import TARGETS

RANKS = (1, 5, 10, 20)
CURVE_RANKS = 50
METRICS, ROC, CMC, QUERIES = "metrics.json", "roc.csv", "cmc.csv", "queries.csv"

StartProgress = Callable[[str], Progress]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        ranking: by distance; CMC at ranks 1 to 50.
        re_ranked: the same after re-ranking, or empty if it was not asked for.
        verification: over the pairs that the data set is verified on, see
            :func:`reid_edge.inference.verification_pairs.verification_pairs`; None where these are
            all of one kind, as where there is one identity.
        pairs: their scores.
        queries: what each query finds by cosine distance, in order; empty if not asked for.
    """

    ranking: dict[str, RankingResult]
    re_ranked: dict[str, RankingResult]
    verification: VerificationResult | None
    pairs: PairScores
    queries: tuple[QueryRanking, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the measures as values that JSON has, CMC at ranks 1, 5, 10 and 20."""
        verification = self.verification and {
            **self.verification.to_dict(),
            "all_impostor_pairs": self.pairs.impostor_pairs,
            "impostors_sampled": self.pairs.sampled,
        }
        return {
            "ranking": {name: _headline(result) for name, result in self.ranking.items()},
            "re_ranked": {name: _headline(result) for name, result in self.re_ranked.items()},
            "verification": verification,
        }


def evaluate(
    embedder: Embedder,
    data: ReidData,
    *,
    protocol: Protocol | None = None,
    re_ranking: bool = False,
    extra_targets: Sequence[float] = (),
    each_query: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    start_progress: StartProgress,
) -> Evaluation:
    """Measure a model on the queries and the gallery of a data set.

    Args:
        embedder: the model.
        data: its training images are not looked at.
        protocol: "market1501" or "single_gallery_shot"; by default the data set's own.
        re_ranking: measure after k-reciprocal re-ranking (20, 6, 0.3) as well.
        extra_targets: false accept rates beyond 1e-1, 1e-2, 1e-3 and 1e-4.
        each_query: keep what each query finds.
        batch_size: images that go through the model together.
        workers: processes that decode images; 0 decodes them in this one.
        start_progress: from the title of a piece of work to what reports on it.

    Raises:
        DataError: no query has a match, or an image cannot be read.
        ModelError: the model fails, or gives what is no embedding.
    """
    rules = protocol or data.protocol
    # Before the minutes that embedding takes.
    check_evaluable(data)
    check_options(RANKS, rules)
    queries, images = label_tensors(data.query), label_tensors(data.gallery)
    labels = (*queries, *images)
    query, gallery = (
        embed_files(
            embedder,
            [image.path for image in split],
            batch_size=batch_size,
            workers=workers,
            progress=start_progress(title),
        )
        for title, split in (("queries", data.query), ("gallery", data.gallery))
    )
    pairs = verification_pairs(data, query, gallery)
    return Evaluation(
        _rank(query, gallery, labels, rules),
        _rank_again(query, gallery, labels, rules, start_progress) if re_ranking else {},
        _verify(pairs, list(dict.fromkeys((*TARGETS, *extra_targets)))),
        pairs,
        tuple(rank_queries(query, *queries, gallery, *images)) if each_query else (),
    )


def write_evaluation(
    folder: Path, data: ReidData, evaluation: Evaluation, record: dict[str, Any]
) -> None:
    """Write ``metrics.json``, the curves and what each query finds into a folder.

    The files are ``cmc.csv``, ``roc.csv`` if there is a verification, and ``queries.csv`` if what
    each query finds was asked for.

    Args:
        folder: is made if it is not there.
        data: what was measured on.
        evaluation: gives the curves, and what each query finds.
        record: what goes into ``metrics.json``.

    Raises:
        DataError: they cannot be written.
    """
    curves = {
        **{name: result.cumulative_matching for name, result in evaluation.ranking.items()},
        **{
            f"{name}_re_ranked": result.cumulative_matching
            for name, result in evaluation.re_ranked.items()
        },
    }
    try:
        # A file that is left out is not to be taken for this measurement's.
        if evaluation.verification is None:
            (folder / ROC).unlink(missing_ok=True)
        else:
            write_roc(folder / ROC, roc_curve(evaluation.pairs))
        write_cmc(folder / CMC, curves)
        if evaluation.queries:
            write_query_list(folder / QUERIES, data, evaluation.queries)
        else:
            (folder / QUERIES).unlink(missing_ok=True)
        write_json(folder / METRICS, record)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def _verify(pairs: PairScores, targets: Sequence[float]) -> VerificationResult | None:
    if pairs.missing is not None:
        return None
    return evaluate_verification(pairs.scores, pairs.same, targets)


def _rank(
    query: Tensor, gallery: Tensor, labels: tuple[Tensor, ...], protocol: Protocol
) -> dict[str, RankingResult]:
    query_ids, query_cameras, gallery_ids, gallery_cameras = labels
    distances: tuple[Distance, ...] = get_args(Distance)
    return {
        distance: evaluate_ranking(
            query,
            query_ids,
            query_cameras,
            gallery,
            gallery_ids,
            gallery_cameras,
            distance=distance,
            ranks=range(1, CURVE_RANKS + 1),
            protocol=protocol,
        )
        for distance in distances
    }


def _rank_again(
    query: Tensor,
    gallery: Tensor,
    labels: tuple[Tensor, ...],
    protocol: Protocol,
    start_progress: StartProgress,
) -> dict[str, RankingResult]:
    distances: tuple[Distance, ...] = get_args(Distance)
    return {
        distance: evaluate_distances(
            rerank(
                query,
                gallery,
                distance=distance,
                progress=start_progress(f"re-ranking, {distance}"),
            ),
            *labels,
            distance=distance,
            ranks=range(1, CURVE_RANKS + 1),
            protocol=protocol,
        )
        for distance in distances
    }


def _headline(result: RankingResult) -> dict[str, object]:
    matching = {str(rank): result.cumulative_matching[rank] for rank in RANKS}
    return {**result.to_dict(), "cumulative_matching": matching}

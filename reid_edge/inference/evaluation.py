"""The one evaluation of a model on a data set: ranking, verification, and their curves.

The stages of the pipeline and ``reid-edge evaluate`` both use it; its result is
:class:`reid_edge.metrics.results.Evaluation`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reid_edge.core.errors import DataError, ModelError
from reid_edge.core.io import write_bytes
from reid_edge.core.model_file import Embeddings
from reid_edge.core.progress import StartProgress
from reid_edge.data.schema import Protocol, ReidData, check_evaluable, label_tensors
from reid_edge.inference.embedder import (
    ImageEmbedder,
    check_embeddings,
    embed_files,
    point_one_way,
)
from reid_edge.metrics.distances import refuse_non_finite
from reid_edge.metrics.pairs import PairScores, pair_scores, pair_scores_within
from reid_edge.metrics.ranking import (
    NEAREST,
    RANKS,
    QueryRanking,
    check_options,
    evaluate_distances,
    evaluate_ranking,
    rank_queries,
)
from reid_edge.metrics.reranking import rerank
from reid_edge.metrics.results import (
    DISTANCES,
    Distance,
    EvaluatedModel,
    Evaluation,
    PairCounts,
    RankingResult,
)
from reid_edge.metrics.verification import TARGETS, RocCurve, evaluate_verification, roc_curve

CURVE_RANKS = range(1, 51)
METRICS, ROC, CMC, QUERIES = "metrics.json", "roc.csv", "cmc.csv", "queries.csv"


@dataclass(frozen=True)
class DetailedEvaluation:
    """An evaluation and what its curves and lists are made of.

    Attributes:
        result: what ``metrics.json`` holds.
        matching: CMC at ranks 1 to 50, by distance; after re-ranking by ``"<distance>_re_ranked"``.
        pairs: the scored pairs.
        queries: what each query finds by cosine distance, in order; empty if not asked for.
    """

    result: Evaluation
    matching: dict[str, dict[int, float]]
    pairs: PairScores
    queries: tuple[QueryRanking, ...] = ()


def evaluate(
    embedder: ImageEmbedder,
    data: ReidData,
    *,
    protocol: Protocol | None = None,
    re_ranking: bool = False,
    extra_targets: Sequence[float] = (),
    each_query: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    start_progress: StartProgress | None = None,
    embed: Callable[..., Embeddings] = embed_files,
) -> DetailedEvaluation:
    """Embed the queries and the gallery of a data set and measure the embeddings.

    Args:
        embedder: the model.
        data: its training images are not used.
        protocol: see `evaluate_embeddings`, like the next three.
        re_ranking: measure after k-reciprocal re-ranking (20, 6, 0.3) as well.
        extra_targets: false accept rates beyond 1e-1, 1e-2, 1e-3 and 1e-4.
        each_query: keep what each query finds.
        batch_size: images that go through the model together.
        workers: see `embed_files`.
        start_progress: from the title of a piece of work to the function that reports on it.
        embed: embeds the images, with the arguments of `embed_files`.

    Raises:
        DataError: no query has a match, an option is unknown, or an image cannot be read.
        ModelError: the model fails, or its output is not an embedding for each image.
    """
    # Before the minutes that embedding takes.
    check_evaluable(data)
    check_options(RANKS, protocol or data.protocol)
    query, gallery = (
        torch.from_numpy(
            embed(
                embedder,
                [image.path for image in images],
                batch_size=batch_size,
                workers=workers,
                progress=start_progress(title) if start_progress else None,
            )
        )
        for title, images in (("queries", data.query), ("gallery", data.gallery))
    )
    space = embedder.space.to_dict()
    return evaluate_embeddings(
        query,
        gallery,
        data,
        protocol=protocol,
        re_ranking=re_ranking,
        extra_targets=extra_targets,
        each_query=each_query,
        model=EvaluatedModel.model_validate(
            {"file": str(embedder.path), "description": embedder.description, **space}
        ),
        start_progress=start_progress,
    )


def evaluate_embeddings(
    query: Tensor,
    gallery: Tensor,
    data: ReidData,
    *,
    protocol: Protocol | None = None,
    re_ranking: bool = False,
    extra_targets: Sequence[float] = (),
    each_query: bool = False,
    model: EvaluatedModel | None = None,
    start_progress: StartProgress | None = None,
    may_collapse: bool = False,
) -> DetailedEvaluation:
    """Rank the gallery for every query by each distance, and verify pairs by cosine similarity.

    Args:
        query: embeddings of the data set's queries, shape (queries, dimensions).
        gallery: embeddings of its gallery, shape (gallery, dimensions).
        data: whose query and gallery these are.
        protocol: "market1501" or "single_gallery_shot"; by default the data set's own.
        re_ranking: measure after k-reciprocal re-ranking (20, 6, 0.3) as well.
        extra_targets: false accept rates beyond 1e-1, 1e-2, 1e-3 and 1e-4.
        each_query: keep what each query finds.
        model: the model file that the embeddings are of, for the result.
        start_progress: from the title of a piece of work to the function that reports on it.
        may_collapse: measure even if all persons have the same embedding, as between a cut and
            the training that mends it.

    Raises:
        DataError: no query has a match, an option is unknown, or embeddings are not finite or do
            not belong to the data.
        ModelError: an embedding is zero in all dimensions, or all persons have the same one.
    """
    _check_useful(query, gallery, data, may_collapse)
    queries, images = label_tensors(data.query), label_tensors(data.gallery)
    rules = protocol or data.protocol
    ranking: dict[Distance, RankingResult] = {}
    re_ranked: dict[Distance, RankingResult] = {}
    for distance in DISTANCES:
        ranking[distance] = evaluate_ranking(
            query,
            *queries,
            gallery,
            *images,
            distance=distance,
            ranks=CURVE_RANKS,
            protocol=rules,
        )
    for distance in DISTANCES if re_ranking else ():
        progress = start_progress(f"re-ranking, {distance}") if start_progress else None
        re_ranked[distance] = evaluate_distances(
            rerank(query, gallery, distance=distance, progress=progress),
            *queries,
            *images,
            distance=distance,
            ranks=CURVE_RANKS,
            protocol=rules,
        )
    pairs = verification_pairs(data, query, gallery)
    counts = PairCounts(
        which="of query and gallery (genuine ones from two cameras)"
        if data.has_cameras
        else "of all test images",
        genuine=len(pairs.genuine),
        impostor=pairs.impostor_pairs,
        sampled=pairs.sampled,
    )
    targets = list(dict.fromkeys((*TARGETS, *extra_targets)))
    result = Evaluation(
        ranking={name: _at_headline_ranks(found) for name, found in ranking.items()},
        re_ranked={name: _at_headline_ranks(found) for name, found in re_ranked.items()},
        verification=evaluate_verification(pairs.scores, pairs.same, targets)
        if counts.missing is None
        else None,
        pairs=counts,
        has_cameras=data.has_cameras,
        query_images=len(data.query),
        gallery_images=len(data.gallery),
        model=model,
    )
    matching = {str(name): found.cumulative_matching for name, found in ranking.items()}
    matching |= {f"{name}_re_ranked": each.cumulative_matching for name, each in re_ranked.items()}
    found = tuple(rank_queries(query, *queries, gallery, *images)) if each_query else ()
    return DetailedEvaluation(result, matching, pairs, found)


def _check_useful(query: Tensor, gallery: Tensor, data: ReidData, may_collapse: bool) -> None:
    for name, embeddings in (("query", query), ("gallery", gallery)):
        refuse_non_finite(name, embeddings)
        check_embeddings(embeddings.numpy())
    persons = {image.person for image in (*data.query, *data.gallery)}
    if may_collapse or len(persons) < 2:
        return
    if point_one_way(torch.cat((query, gallery)).numpy()):
        raise ModelError(
            f"the model gives the same embedding for all {len(persons)} persons: the training "
            "collapsed or the file is damaged; take another checkpoint"
        )


def _at_headline_ranks(result: RankingResult) -> RankingResult:
    matching = {rank: result.cumulative_matching[rank] for rank in RANKS}
    return result.model_copy(update={"cumulative_matching": matching})


def verification_pairs(data: ReidData, query: Tensor, gallery: Tensor) -> PairScores:
    """Score the pairs that a data set is verified on.

    With cameras: every query against every gallery image, except those of its person from its
    camera, as in ranking. Pairs of two persons from one camera count: these are compared in use
    too. Without cameras, as with faces: every test image against every other one, each pair once,
    whether it is a query or not.

    Args:
        data: whose query and gallery these are.
        query: embeddings of its queries, shape (queries, dimensions).
        gallery: embeddings of its gallery, shape (gallery, dimensions).

    Raises:
        DataError: features are not finite, or shapes do not belong together.
    """
    if data.has_cameras:
        query_persons, query_cameras = label_tensors(data.query)
        gallery_persons, gallery_cameras = label_tensors(data.gallery)
        return pair_scores(
            query,
            query_persons,
            gallery,
            gallery_persons,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
        )
    images = [*data.query, *data.gallery]
    # An image in both splits is one image. Its stand-in camera identifies it: `prepare` may have
    # written it into both folders, and then its path does not.
    rows = {(image.person, image.camera): row for row, image in enumerate(images)}.values()
    return pair_scores_within(
        torch.cat((query, gallery))[list(rows)],
        torch.tensor([images[row].person for row in rows]),
    )


def write_evaluation(
    folder: Path, data: ReidData, evaluation: DetailedEvaluation, result: Evaluation | None = None
) -> None:
    """Write ``metrics.json``, the curves and what each query finds into a folder.

    The files are ``cmc.csv``, ``roc.csv`` if there is a verification, and ``queries.csv`` if what
    each query finds was asked for.

    Args:
        folder: is created if it does not exist.
        data: that was evaluated on.
        evaluation: gives the curves, and what each query finds.
        result: for ``metrics.json``; by default that of the evaluation.

    Raises:
        DataError: they cannot be written.
    """
    try:
        # A file of an earlier evaluation must not be taken for one of this.
        if evaluation.result.verification is None:
            (folder / ROC).unlink(missing_ok=True)
        else:
            write_roc(folder / ROC, roc_curve(evaluation.pairs))
        write_cmc(folder / CMC, evaluation.matching)
        if evaluation.queries:
            write_query_list(folder / QUERIES, data, evaluation.queries)
        else:
            (folder / QUERIES).unlink(missing_ok=True)
        write_bytes(folder / METRICS, (result or evaluation.result).to_json().encode())
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error


def write_roc(path: Path, curve: RocCurve) -> None:
    """Write a curve as CSV: threshold, false and true accept rate; OSError if that fails."""
    columns = (curve.thresholds, curve.false_accept_rates, curve.true_accept_rates)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    _write_csv(path, ("threshold", "false_accept_rate", "true_accept_rate"), rows)


def write_cmc(path: Path, curves: Mapping[str, Mapping[int, float]]) -> None:
    """Write cumulative matching as CSV, a column for each name; OSError if that fails.

    Args:
        path: of the file.
        curves: share of queries with a match by rank, all at the same ranks.
    """
    ranks = sorted(next(iter(curves.values())))
    rows = ((rank, *(curve[rank] for curve in curves.values())) for rank in ranks)
    _write_csv(path, ("rank", *curves), rows)


def write_query_list(path: Path, data: ReidData, rankings: Iterable[QueryRanking]) -> None:
    """Write a line for each query: the way to the images that a model fails on.

    Images are named by their paths from the data set's folder, with a backslash for bytes that
    are not UTF-8, as they are printed. Average precision and the rank of the first match are empty
    for a query without a match.

    Args:
        path: of the file.
        data: whose queries and gallery these are.
        rankings: of its queries, in their order.

    Raises:
        OSError: it cannot be written.
    """

    def name(image: Path) -> str:
        inside = image.is_relative_to(data.root)
        return (image.relative_to(data.root) if inside else image).as_posix()

    heading = [f"nearest_{place}" for place in range(1, NEAREST + 1)]
    rows = []
    for query, ranking in zip(data.query, rankings, strict=True):
        nearest = [name(data.gallery[place].path) for place in ranking.nearest]
        blanks = [""] * (NEAREST - len(nearest))
        score = (ranking.average_precision, ranking.first_match)
        rows.append([name(query.path), *score, *nearest, *blanks])
    _write_csv(path, ("query", "average_precision", "first_match", *heading), rows)


def _write_csv(path: Path, heading: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table as CSV, the whole file or none of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))

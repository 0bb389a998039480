"""``reid-edge evaluate``: how well a model ranks and verifies on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from reid_edge.cli.data_options import add_data_set_option
from reid_edge.cli.model_options import add_loading_options, add_model_options, load_chosen_model
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.cli.reading import Reading, read_as
from reid_edge.core.errors import DataError

if TYPE_CHECKING:
    from reid_edge.data.schema import ReidData
    from reid_edge.inference.embedder import Embedder
    from reid_edge.inference.evaluate import Evaluation
    from reid_edge.metrics import RankingResult, VerificationResult

HEADLINE_RANKS = (1, 5, 10, 20)
HELP = "measure a model file on a data set: CMC, mAP, mINP, EER, TAR@FAR, with thresholds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_options(parser)
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FOLDER",
        help="a data set with query and gallery images",
    )  # fmt: skip
    add_data_set_option(parser)
    parser.add_argument(
        "--split", type=int, metavar="N",
        help="which of CUHK03's 20 classic splits, 0 to 19 (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", metavar="NAME",
        help="market1501 or single_gallery_shot (default: the data set's)",
    )  # fmt: skip
    parser.add_argument(
        "--re-rank", action="store_true",
        help="measure after k-reciprocal re-ranking (20, 6, 0.3) as well",
    )  # fmt: skip
    parser.add_argument(
        "--store-threshold", metavar="FAR",
        help="store the threshold for this false accept rate, or 'eer', with the model",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="write metrics.json, roc.csv, cmc.csv and queries.csv (what each query finds) there",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print what was measured, and store what was asked for.

    Returns:
        0.

    Raises:
        ReidError: the model or the data cannot be read, or there are too few pairs for the
            threshold, or none.
    """
    from reid_edge.inference.evaluate import write_evaluation
    from reid_edge.inference.thresholds import choose_threshold, parse_target, store_threshold

    target = parse_target(options.store_threshold) if options.store_threshold else None
    embedder = load_chosen_model(options)
    data, reading, evaluation = _measure(options, embedder, target)
    record = _record(embedder, data, reading, evaluation)
    console = Console(soft_wrap=True, highlight=False, stderr=options.json)
    if options.json:
        print(json.dumps(record, indent=2, allow_nan=False))  # noqa: T201
    else:
        _show(console, embedder, data, reading, evaluation)
    # What was measured has been shown by now, should there be no threshold or nowhere to write.
    if options.output is not None:
        write_evaluation(options.output, data, evaluation, record)
        roc = "" if evaluation.verification is None else "roc.csv, "
        console.print(
            f"metrics.json, {roc}cmc.csv and queries.csv are in {options.output}", markup=False
        )
    if target is not None:
        if evaluation.verification is None:
            raise DataError(f"{data.root}: no threshold: {_why_none(data, evaluation)}")
        chosen = choose_threshold(evaluation.verification, target, data.root.resolve().name)
        path = store_threshold(embedder, chosen)
        console.print(f"threshold {chosen.threshold:.4f} ({chosen}) is in {path}", markup=False)
    return 0


def _measure(
    options: argparse.Namespace, embedder: Embedder, target: float | str | None
) -> tuple[ReidData, Reading, Evaluation]:
    from reid_edge.inference.evaluate import evaluate

    with progress_bars() as start:
        data, reading = read_as(
            options.name, options.data, start("extracting"), split=options.split
        )
        evaluation = evaluate(
            embedder,
            data,
            protocol=options.protocol,
            re_ranking=options.re_rank,
            extra_targets=[target] if isinstance(target, float) else [],
            each_query=options.output is not None,
            batch_size=options.batch_size,
            workers=options.workers,
            start_progress=start,
        )
    return data, reading, evaluation


def _record(
    embedder: Embedder, data: ReidData, reading: Reading, evaluation: Evaluation
) -> dict[str, Any]:
    return {
        "model_file": str(embedder.path),
        "model": embedder.description,
        **embedder.space.to_dict(),
        "data": str(data.root),
        **reading.to_dict(),
        "has_cameras": data.has_cameras,
        "query_images": len(data.query),
        "gallery_images": len(data.gallery),
        **evaluation.to_dict(),
    }


def _show(
    console: Console,
    embedder: Embedder,
    data: ReidData,
    reading: Reading,
    evaluation: Evaluation,
) -> None:
    from reid_edge.data.schema import NO_CAMERAS
    from reid_edge.inference.verification_pairs import describe_pairs

    height, width = embedder.space.input_size
    flip = ", flip averaging" if embedder.space.flip_averaging else ""
    first = next(iter(evaluation.ranking.values()))
    left_out = f", {first.queries_without_match} without a match left out"
    console.print(f"{embedder.path}: {embedder.description}, {height}x{width}{flip}", markup=False)
    console.print(f"{data.root}: {reading}", markup=False)
    console.print(
        f"{first.queries} queries{left_out if first.queries_without_match else ''}, "
        f"protocol {first.protocol}",
        markup=False,
    )
    rows = {
        **evaluation.ranking,
        **{f"{name}, re-ranked": result for name, result in evaluation.re_ranked.items()},
    }
    if not data.has_cameras:
        console.print(NO_CAMERAS, markup=False)
    console.print(_ranking_table(rows))
    if evaluation.verification is None:
        console.print(f"no verification: {_why_none(data, evaluation)}", markup=False)
    else:
        console.print(_verification_table(evaluation.verification, describe_pairs(data)))
    if evaluation.pairs.sampled:
        console.print(
            f"impostor pairs: a sample of {evaluation.pairs.impostor_pairs:,}", markup=False
        )


def _why_none(data: ReidData, evaluation: Evaluation) -> str:
    from reid_edge.inference.verification_pairs import describe_pairs

    return f"there are no {evaluation.pairs.missing} pairs {describe_pairs(data)}"


def _ranking_table(rows: dict[str, RankingResult]) -> Table:
    table = Table()
    table.add_column("ranking, %")
    for heading in ("mAP", "mINP", *(f"rank-{rank}" for rank in HEADLINE_RANKS)):
        table.add_column(heading, justify="right")
    for name, result in rows.items():
        values = (
            result.mean_average_precision,
            result.mean_inverse_negative_penalty,
            *(result.cumulative_matching[rank] for rank in HEADLINE_RANKS),
        )
        table.add_row(name, *(f"{100 * value:.2f}" for value in values))
    return table


def _verification_table(result: VerificationResult, which: str) -> Table:
    table = Table(
        caption=f"{result.genuine_pairs:,} genuine and {result.impostor_pairs:,} impostor pairs "
        f"{which}, cosine",
        caption_justify="left",
    )
    for heading in ("verification", "%", "threshold"):
        table.add_column(heading, justify="left" if heading == "verification" else "right")
    table.add_row(
        "EER", f"{100 * result.equal_error_rate:.2f}", f"{result.equal_error_threshold:.4f}"
    )
    for point in result.operating_points:
        name = f"TAR@FAR {point.target:g}"
        if point.threshold is None or point.true_accept_rate is None:
            table.add_row(name, "-", point.reason)
        else:
            table.add_row(name, f"{100 * point.true_accept_rate:.2f}", f"{point.threshold:.4f}")
    return table

"""``reid-edge evaluate``: how well a model ranks and verifies on a data set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reid_edge.cli import evaluate_mot, evaluate_unlabelled
from reid_edge.cli.data_options import add_data_set_option
from reid_edge.cli.model_options import add_loading_options, add_model_options, load_chosen_model
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.cli.reading import Reading, read_as
from reid_edge.core.devices import choose_device
from reid_edge.core.errors import DataError, ModelError
from reid_edge.training.launchers import as_started

if TYPE_CHECKING:
    from reid_edge.core.model_file import Embeddings
    from reid_edge.inference.embedder import ImageEmbedder
    from reid_edge.metrics.results import Evaluation
    from reid_edge.training.world import World

HELP = (
    "measure a model file on a data set: CMC, mAP, mINP, EER, TAR@FAR, with thresholds; or in a "
    "tracker: IDF1, HOTA"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model_options(parser, several=True)
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument(
        "--data", type=Path, metavar="FOLDER", help="a data set with query and gallery images"
    )
    images.add_argument(
        "--mot", type=Path, metavar="FOLDER",
        help="sequences in the MOTChallenge layout with detections: measure IDF1, HOTA and "
        "identity switches with each model, and by overlap alone",
    )  # fmt: skip
    add_data_set_option(parser)
    parser.add_argument(
        "--split", type=int, metavar="N",
        help="which of the 20 splits of CUHK01 or of CUHK03's classic protocol, 0 to 19 "
        "(default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", metavar="NAME",
        help="market1501 or single_gallery_shot (default: the data set's)",
    )  # fmt: skip
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE",
        help="with --data without identities (--as unlabelled or tracklets): the model that the "
        "other one is compared with",
    )  # fmt: skip
    parser.add_argument(
        "--re-rank", action="store_true",
        help="also measure after k-reciprocal re-ranking (20, 6, 0.3)",
    )  # fmt: skip
    parser.add_argument(
        "--store-threshold", metavar="FAR",
        help="store the threshold for this false accept rate, or for 'eer', beside the model",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, metavar="X",
        help="appearance threshold, a cosine similarity, with --mot (default: the one of 0.30 to "
        "0.95 with the highest IDF1)",
    )  # fmt: skip
    parser.add_argument(
        "--min-confidence", type=float, metavar="X",
        help="of detections that are tracked, with --mot (default: all are)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="write metrics.json, roc.csv, cmc.csv and queries.csv (what each query finds); with "
        "--mot tracking.json, the tracks, and configuration files of trackers for ONNX files",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    add_loading_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print the result, write files and store a threshold if asked for.

    Returns:
        0.

    Raises:
        ReidError: the model or the data cannot be read, or there are too few pairs for the
            threshold.
    """
    if options.mot is not None:
        return evaluate_mot.run(options)
    for name in ("threshold", "min_confidence"):
        if getattr(options, name) is not None:
            raise DataError(f"--{name.replace('_', '-')} is for --mot")
    require_torch()
    launch = as_started()
    if launch is None:
        return _evaluate(options, None)
    from reid_edge.training.world import EXIT_OTHER_RANK, OtherRankError, joined

    try:
        with joined(launch, choose_device(options.device)) as world:
            return _evaluate(options, world)
    except OtherRankError:
        return EXIT_OTHER_RANK


def _evaluate(options: argparse.Namespace, world: World | None) -> int:
    """Evaluate in this process, or in all ranks of a launcher; rank zero prints the result."""
    from reid_edge.inference.embedder import embed_files
    from reid_edge.inference.evaluation import evaluate, write_evaluation
    from reid_edge.inference.thresholds import choose_threshold, parse_target, store_threshold
    from reid_edge.metrics.results import EvaluatedData

    target = parse_target(options.store_threshold) if options.store_threshold else None
    embedder = load_chosen_model(options)
    with progress_bars() as start:
        data, reading = read_as(
            options.name, options.data, start("extracting"), split=options.split
        )
        if data.labels != "persons":
            if world is not None:
                raise DataError("images without identities are measured by one process")
            return evaluate_unlabelled.run(options, embedder, data, reading, start)
        if options.teacher is not None:
            raise DataError(
                f"--teacher is for images without identities, and {data.root} has some; leave it "
                "out"
            )
        embed: Callable[..., Embeddings] = embed_files
        if world is not None:
            from reid_edge.training.shared_embedding import embed_files_together

            embed = partial(embed_files_together, world)
        if world is not None and world.rank > 0:
            for images in (data.query, data.gallery):
                paths = [image.path for image in images]
                embed(embedder, paths, batch_size=options.batch_size, workers=options.workers)
            world.receive()  # rank zero has ended
            return 0
        evaluation = evaluate(
            embedder,
            data,
            embed=embed,
            protocol=options.protocol,
            re_ranking=options.re_rank,
            extra_targets=[target] if isinstance(target, float) else [],
            each_query=options.output is not None,
            batch_size=options.batch_size,
            workers=options.workers,
            start_progress=start,
        )
    source = EvaluatedData.model_validate({"root": str(data.root), **reading.to_dict()})
    result = evaluation.result.model_copy(update={"data": source})
    console = Console(soft_wrap=True, highlight=False, stderr=options.json)
    if options.json:
        print(result.to_json(), end="")  # noqa: T201
    else:
        _show(console, embedder, reading, result)
    # The result has been shown by now, whatever goes wrong with the files.
    if options.output is not None:
        write_evaluation(options.output, data, evaluation, result)
        roc = "" if result.verification is None else "roc.csv, "
        console.print(
            f"metrics.json, {roc}cmc.csv and queries.csv are in {options.output}", markup=False
        )
    if target is not None:
        if result.verification is None:
            raise DataError(f"{data.root}: no threshold: {_reason(result)}")
        chosen = choose_threshold(result.verification, target, data.root.resolve().name)
        path = store_threshold(embedder, chosen)
        console.print(f"threshold {chosen.threshold:.4f} ({chosen}) is in {path}", markup=False)
    return 0


def require_torch() -> None:
    """Raise ModelError unless PyTorch can be imported."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ModelError("this command needs PyTorch: pip install 'reid-edge[compress]'") from error


def _reason(result: Evaluation) -> str:
    return f"there are no {result.pairs.missing} pairs {result.pairs.which}"


def _show(console: Console, embedder: ImageEmbedder, reading: Reading, result: Evaluation) -> None:
    """Print what was evaluated, a table of the ranking and one of the verification."""
    from reid_edge.core.tables import FittingTable
    from reid_edge.data.schema import NO_CAMERAS

    height, width = embedder.space.input_size
    flip = ", flip averaging" if embedder.space.flip_averaging else ""
    lines = [f"{embedder.path}: {embedder.description}, {height}x{width}{flip}"]
    if result.data is not None:
        lines.append(f"{result.data.root}: {reading}")
    first = next(iter(result.ranking.values()))
    left_out = f", {first.queries_without_match} without a match left out"
    lines.append(
        f"{first.queries} queries{left_out if first.queries_without_match else ''}, "
        f"protocol {first.protocol}"
    )
    if not result.has_cameras:
        lines.append(NO_CAMERAS)
    for line in lines:
        console.print(line, markup=False)

    ranks = [f"rank-{rank}" for rank in first.cumulative_matching]
    ranking = []
    rows = [(str(name), measured) for name, measured in result.ranking.items()]
    rows += [(f"{name}, re-ranked", measured) for name, measured in result.re_ranked.items()]
    for name, measured in rows:
        values = (
            measured.mean_average_precision,
            measured.mean_inverse_negative_penalty,
            *measured.cumulative_matching.values(),
        )
        ranking.append([name, *(f"{100 * value:.2f}" for value in values)])
    headings = ["ranking, %", "mAP", "mINP", *ranks]
    console.print(FittingTable("", headings, ranking, drop=[*ranks[:0:-1], "mINP"]))

    measures = result.verification
    if measures is None:
        console.print(f"no verification: {_reason(result)}", markup=False)
        return
    verification = [
        ("EER", f"{100 * measures.equal_error_rate:.2f}", f"{measures.equal_error_threshold:.4f}")
    ]
    for point in measures.operating_points:
        name = f"TAR@FAR {point.target:g}"
        if point.threshold is None or point.true_accept_rate is None:
            verification.append((name, "-", point.reason or ""))
        else:
            rate = f"{100 * point.true_accept_rate:.2f}"
            verification.append((name, rate, f"{point.threshold:.4f}"))
    console.print(
        FittingTable(
            "",
            ["verification", "%", "threshold"],
            verification,
            breaking=["threshold"],
            caption=f"{measures.genuine_pairs:,} genuine and {measures.impostor_pairs:,} impostor "
            f"pairs {result.pairs.which}, cosine",
        )
    )
    if result.pairs.sampled:
        console.print(f"impostor pairs: a sample of {result.pairs.impostor:,}", markup=False)

"""``reid-edge evaluate --mot``: what models do to tracking."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from reid_edge.cli.model_options import load_chosen_models
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.core.errors import DataError, ReidError

if TYPE_CHECKING:
    from reid_edge.inference.embedder import ImageEmbedder
    from reid_edge.tracking.mot_evaluation import ModelTracking, MotEvaluation

_log = logging.getLogger(__name__)

# What is for --data alone, by the option's name.
OTHERS = ("teacher", "name", "split", "protocol", "re_rank", "store_threshold")
SPELLED = {"name": "as"}


def run(options: argparse.Namespace) -> int:
    """Print the tables, and write files if asked for.

    Returns:
        0.

    Raises:
        ReidError: an option is for ``--data``, a package is missing, or the sequences or a model
            cannot be read.
    """
    for name in OTHERS:
        if getattr(options, name):
            option = SPELLED.get(name, name).replace("_", "-")
            raise DataError(f"--{option} is for --data; leave it out with --mot")
    if options.batch_size < 1:
        raise DataError(f"--batch-size {options.batch_size}: expected 1 or more")
    given = options.threshold
    if given is not None and not -1 <= given <= 1:
        raise DataError(f"--threshold {given:g}: a cosine similarity is between -1 and 1")
    from reid_edge.inference.frames import Embedder
    from reid_edge.tracking.mot_evaluation import THRESHOLDS, evaluate_mot
    from reid_edge.tracking.mot_folder import read_mot_folder

    sequences = read_mot_folder(options.mot)
    models = load_chosen_models(options)
    with progress_bars() as start:
        tracked = evaluate_mot(
            options.mot,
            sequences,
            [Embedder(model, batch_size=options.batch_size) for model in models],
            min_confidence=options.min_confidence,
            thresholds=THRESHOLDS if given is None else [given],
            start_progress=start,
        )
    console = Console(soft_wrap=True, highlight=False, stderr=options.json)
    if options.json:
        print(tracked.result.to_json(), end="")  # noqa: T201
    else:
        _show(console, tracked.result, chosen=given is None)
    if options.output is not None:
        tracked.write(options.output)
        written = _write_tracker_files(models, tracked.result, options.output)
        more = f", and files for trackers in {options.output / 'trackers'}" if written else ""
        console.print(f"tracking.json and tracks are in {options.output}{more}", markup=False)
    return 0


def _write_tracker_files(models: list[ImageEmbedder], result: MotEvaluation, output: Path) -> int:
    """Write configuration files of trackers for ONNX files; return how many models got them."""
    from reid_edge.core.backends import recognise
    from reid_edge.core.packages import missing_packages
    from reid_edge.tracking.tracker_files import TRACKERS, write_tracker_files

    files = [model.path for model in models]
    if missing_packages(("onnx",)):
        return 0
    written = 0
    names = ", ".join(sequence.name for sequence in result.sequences)
    for path, measured in zip(files, result.models, strict=True):
        if recognise(path).name == "onnx":
            # Two files may have the same name in two folders.
            same = sum(path.stem == other.stem for other in files)
            stem = f"{path.parent.name}-{path.stem}" if same > 1 else path.stem
            tried = len(measured.thresholds)
            source = f"best IDF1 on {names}" if tried > 1 else "--threshold"
            try:
                write_tracker_files(path, output / TRACKERS / stem, measured.threshold, source)
                written += 1
            except ReidError as error:  # the result has been shown by now
                _log.warning("no files for trackers: %s", error)
    return written


def _show(console: Console, result: MotEvaluation, *, chosen: bool) -> None:
    """Print what was tracked, a table of the scores and one of the gaps.

    Args:
        console: to print on.
        result: what was measured.
        chosen: the thresholds are those with the highest IDF1.
    """
    from reid_edge.core.tables import FittingTable

    rows = [result.control, *result.models]
    frames = sum(sequence.frames for sequence in result.sequences)
    boxes = sum(sequence.detections for sequence in result.sequences)
    console.print(
        f"{result.root}: {len(result.sequences)} sequences, {frames:,} frames, {boxes:,} "
        f"detections, {result.control.scores.identities} identities",
        markup=False,
    )
    scores = []
    for row in rows:
        measured = row.scores
        shares = (
            measured.idf1, measured.hota, measured.association_accuracy,
            measured.detection_accuracy, measured.mota,
        )  # fmt: skip
        scores.append(
            [
                row.model,
                "-" if row.threshold is None else f"{row.threshold:.2f}",
                *(f"{100 * share:.2f}" for share in shares),
                str(measured.identity_switches),
                str(measured.tracks),
            ]
        )
    best = "; the one with the highest IDF1 on these sequences" if chosen else ""
    console.print(
        FittingTable(
            "",
            ["association", "threshold", "IDF1", "HOTA", "AssA", "DetA", "MOTA", "switches",
             "tracks"],
            scores,
            drop=["tracks", "DetA", "AssA", "MOTA"],
            breaking=["association"],
            caption="threshold: lowest cosine similarity at which a track that was lost takes a "
            f"detection{best}",
        )
    )  # fmt: skip
    points = result.control.gaps
    console.print(
        FittingTable(
            "",
            ["found again after", *(f"{point.gap}" for point in points)],
            [
                ["persons", *(f"{point.persons:,}" for point in points)],
                *([row.model, *_shares(row)] for row in rows),
            ],
            breaking=["found again after"],
            caption="share of persons, %, whose most similar detection so many frames later is "
            "their own; persons: in both frames",
        )
    )


def _shares(row: ModelTracking) -> list[str]:
    return ["-" if point.found is None else f"{100 * point.found:.1f}" for point in row.gaps]

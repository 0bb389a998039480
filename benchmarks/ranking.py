"""Time `reid_edge.metrics.evaluate_ranking` beside a plain NumPy argsort and torchreid's Cython.

    python -m benchmarks.ranking
    python -m benchmarks.ranking --queries 11659 --gallery 82161 --only reid_edge.metrics

Every measurement is a process of its own, on the same features, and the implementations take
turns. A time is from features to mAP; memory is the peak beyond the process with the features
loaded. torchreid is measured where it can be imported (``pip install torchreid==0.2.5``, with its
``rank_cylib`` built); its Python fallback is not, being forty times as slow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import at_least, make_parser
from pipeline.command import run_guarded
from quantize.machine import forget_peak, memory

ROOT = Path(__file__).resolve().parents[1]
MEBIBYTE = 2**20
RANKS = (1, 5, 10, 20)

Measured = tuple[float, float]
Result = dict[str, Any]
Arguments = list[Tensor]


def main(options: argparse.Namespace) -> None:
    """Measure in turn and print the medians."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "sets.npz"
        np.savez(data, **synthetic_sets(options.queries, options.gallery, options.dim))  # type: ignore[arg-type]
        results = measure_in_turn(options, data)
    Console().print(table(options, results))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--queries", type=at_least(1), default=3368)
    parser.add_argument("--gallery", type=at_least(1), default=15913)
    parser.add_argument("--dim", type=at_least(1), default=512)
    parser.add_argument("--repeats", type=at_least(1), default=5)
    parser.add_argument("--threads", type=at_least(1), default=1, help="of every implementation")
    parser.add_argument("--only", choices=sorted(IMPLEMENTATIONS), action="append")
    parser.add_argument("--measure", choices=sorted(IMPLEMENTATIONS), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def synthetic_sets(queries: int, gallery: int, dim: int) -> dict[str, np.ndarray]:
    """Noisy clusters as hard as Market-1501: as many images an identity, a sixth distractors."""
    generator = np.random.default_rng(0)
    identities = max(2, gallery // 21)
    centres = generator.standard_normal((2 * identities, dim), dtype=np.float32)
    query_ids = generator.integers(0, identities, queries)
    gallery_ids = generator.integers(0, identities, gallery)
    distractors = generator.random(gallery) < 1 / 6
    gallery_ids[distractors] = generator.integers(identities, 2 * identities, distractors.sum())
    noise = np.float32(0.39 * dim**0.25)

    def features(ids: np.ndarray) -> np.ndarray:
        scatter = generator.standard_normal((len(ids), dim), dtype=np.float32)
        scatter *= noise
        scatter += centres[ids]
        return scatter

    return {
        "query_features": features(query_ids),
        "query_ids": query_ids,
        "query_cameras": generator.integers(0, 6, queries),
        "gallery_features": features(gallery_ids),
        "gallery_ids": gallery_ids,
        "gallery_cameras": generator.integers(0, 6, gallery),
    }


def with_reid_metrics(arguments: Arguments) -> Measured:
    """Evaluate with this repository's ranking."""
    from reid_edge.metrics import evaluate_ranking

    result = evaluate_ranking(*arguments, distance="euclidean", ranks=RANKS)
    return result.mean_average_precision, result.cumulative_matching[1]


def with_numpy_argsort(arguments: Arguments) -> Measured:
    """Evaluate with the whole matrix of distances and a stable argsort of each row."""
    queries, ids, cameras, gallery, gallery_ids, gallery_cameras = (x.numpy() for x in arguments)
    distances = (queries**2).sum(1)[:, None] + (gallery**2).sum(1) - 2 * queries @ gallery.T
    precisions, firsts = [], []
    for row, identity, camera in zip(distances, ids, cameras, strict=True):
        order = np.argsort(row, kind="stable")
        same = gallery_ids[order] == identity
        places = np.flatnonzero(same[~(same & (gallery_cameras[order] == camera))]) + 1
        if len(places):
            precisions.append(np.mean(np.arange(1, len(places) + 1) / places))
            firsts.append(places[0] == 1)
    return float(np.mean(precisions)), float(np.mean(firsts))


def with_torchreid(arguments: Arguments) -> Measured:
    """Evaluate as torchreid's engine does, with its Cython ranking."""
    from torchreid.reid.metrics import compute_distance_matrix, evaluate_rank
    from torchreid.reid.metrics.rank import IS_CYTHON_AVAI

    if not IS_CYTHON_AVAI:
        raise ImportError("torchreid is there, but its rank_cylib is not built")
    queries, ids, cameras, gallery, gallery_ids, gallery_cameras = arguments
    distances = compute_distance_matrix(queries, gallery, "euclidean").numpy()
    labels = (x.numpy() for x in (ids, gallery_ids, cameras, gallery_cameras))
    matching, precision = evaluate_rank(distances, *labels, max_rank=max(RANKS))
    return float(precision), float(matching[0])


IMPLEMENTATIONS: dict[str, Callable[[Arguments], Measured]] = {
    "reid_edge.metrics": with_reid_metrics,
    "numpy argsort": with_numpy_argsort,
    "torchreid cython": with_torchreid,
}


def measure(name: str, data: Path) -> Result:
    """Time one implementation in this process."""
    evaluate = IMPLEMENTATIONS[name]
    arguments = [torch.from_numpy(array) for array in np.load(data).values()]
    try:
        evaluate([part[:500] for part in arguments])
    except ImportError as error:
        return {"missing": str(error)}
    forget_peak()
    before = memory("VmRSS")
    start = time.perf_counter()
    precision, first = evaluate(arguments)
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    return {
        "seconds": seconds,
        "mebibytes": None if before is None or peak is None else (peak - before) / MEBIBYTE,
        "precision": precision,
        "first": first,
    }


def measure_in_turn(options: argparse.Namespace, data: Path) -> dict[str, list[Result]]:
    """Run every implementation once, and that as often as asked for."""
    names = options.only or list(IMPLEMENTATIONS)
    results: dict[str, list[Result]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            results[name].append(run_process(name, data, options.threads))
    return results


def run_process(name: str, data: Path, threads: int) -> Result:
    """Measure in a fresh process."""
    limits = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks.ranking", "--measure", name, "--data", str(data)],
        cwd=ROOT,
        env=os.environ | {limit: str(threads) for limit in limits},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        last = finished.stderr.strip().splitlines()[-1:] or ["killed, most likely out of memory"]
        return {"missing": last[0]}
    measured: Result = json.loads(finished.stdout.splitlines()[-1])
    return measured


def table(options: argparse.Namespace, results: dict[str, list[Result]]) -> Table:
    """Return a table of the medians, and of how many times as fast ours is."""
    title = (
        f"{options.queries} queries x {options.gallery} gallery images x {options.dim}, "
        f"{options.threads} thread(s), median of {options.repeats}"
    )
    shown = Table(title=title)
    for heading in ("implementation", "seconds", "slower than ours", "peak MiB", "mAP", "rank-1"):
        shown.add_column(heading, justify="left" if heading == "implementation" else "right")
    for row in table_rows(results):
        shown.add_row(*row)
    return shown


def table_rows(results: dict[str, list[Result]]) -> Iterator[tuple[str, ...]]:
    """Give a row of the table for each implementation."""
    ours = next(iter(results.get("reid_edge.metrics", [])), {})
    reference = median_of(results["reid_edge.metrics"], "seconds") if "seconds" in ours else None
    for name, runs in results.items():
        if any("missing" in run for run in runs):
            yield name, str(next(run["missing"] for run in runs if "missing" in run))
            continue
        seconds = median_of(runs, "seconds")
        peaks = [float(run["mebibytes"]) for run in runs if run["mebibytes"] is not None]
        peak = max(peaks, default=None)
        yield (
            name,
            f"{seconds:.3f}",
            f"{seconds / reference:.1f} x" if reference else "",
            "-" if peak is None else f"{peak:.0f}",
            f"{median_of(runs, 'precision'):.5f}",
            f"{median_of(runs, 'first'):.5f}",
        )


def median_of(runs: list[Result], key: str) -> float:
    """Give the median of one number over the runs."""
    return median(float(run[key]) for run in runs)


if __name__ == "__main__":
    given = parse_options()
    if given.measure:
        sys.stdout.write(json.dumps(measure(given.measure, given.data)))
    else:
        sys.exit(run_guarded(partial(main, given)))

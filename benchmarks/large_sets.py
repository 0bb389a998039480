"""Processor time and memory of large sets: a list, a check, an epoch, a ranking, an identification.

    python -m benchmarks.large_sets --output large-sets.json
    python -m benchmarks.large_sets --only reading,drawing --lines 100000 --output small.json

Each part runs in a process of its own, one after the other. Data is made by this program: image
files are links to one small JPEG in each folder, and features are noisy clusters. Seconds are of
processor time, of all threads together; memory is the peak beyond that before the part. Making data
is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, listed, make_parser
from pipeline.command import run_guarded
from quantize.machine import forget_peak, memory
from reid_edge.core.io import write_json

ROOT = Path(__file__).resolve().parents[1]
MEBIBYTE = 2**20
IMAGES_OF_A_PERSON = 20
IMAGES_IN_FOLDER = 1000
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Row = dict[str, Any]


class Meter:
    """Processor time, elapsed time and peak memory since the last start."""

    def __init__(self) -> None:
        forget_peak()
        self._memory = memory("VmRSS") or 0
        self._wall, self._cpu = time.perf_counter(), _processor_seconds()

    def read(self) -> Row:
        """Return what was used since the start."""
        return {
            "processor_seconds": round(_processor_seconds() - self._cpu, 3),
            "wall_seconds": round(time.perf_counter() - self._wall, 3),
            "peak_mebibytes": round(((memory("VmHWM") or 0) - self._memory) / MEBIBYTE),
            "left_mebibytes": round(((memory("VmRSS") or 0) - self._memory) / MEBIBYTE),
        }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_list(options: argparse.Namespace, folder: Path) -> Row:
    """Read a CSV list."""
    from reid_edge.data.sources import read_source

    root = write_list(folder, options.lines)
    meter = Meter()
    data = read_source("csv", root)
    return {"lines": len(data.train), **meter.read()}


def check_images(options: argparse.Namespace, folder: Path) -> Row:
    """Do what ``reid-edge check`` does: read a list and look at every image."""
    from reid_edge.data.checking import check_data
    from reid_edge.data.sources import read_source

    root = write_list(folder, options.images)
    meter = Meter()
    check_data(read_source("csv", root))
    return {"images": options.images, **meter.read()}


def start_training(options: argparse.Namespace, folder: Path) -> Row:
    """Do what a training does before its first step, for images that were inspected before."""
    from reid_edge.data.augmentation import AugmentationSettings
    from reid_edge.data.inspection import inspect_data
    from reid_edge.data.loaders import training_loader
    from reid_edge.data.sources import read_source

    root = write_list(folder, options.lines)
    # What an inspection of these images would have left.
    known = {}
    for image in read_source("csv", root).train:
        status = image.path.stat()
        known[f"{image.path}\t{status.st_size}\t{status.st_mtime_ns}"] = "0" * 64
    meter = Meter()
    data = read_source("csv", root)
    inspect_data(data, known=known)
    loader = training_loader(
        data.train, augmentation=AugmentationSettings(), height=256, width=128,
        identities_per_batch=16, images_per_identity=4, seed=0, workers=0,
    )  # fmt: skip
    next(iter(loader.sampler))
    return {"lines": options.lines, **meter.read()}


def draw_epoch(options: argparse.Namespace, folder: Path) -> Row:
    """Draw the batches of an epoch."""
    del folder
    from reid_edge.data.sampling import EpochSampler

    identities = max(16, options.lines // IMAGES_OF_A_PERSON)
    classes = np.random.default_rng(0).integers(0, identities, options.lines).tolist()
    sampler = EpochSampler(classes, identities_per_batch=16, images_per_identity=4, seed=0)
    meter = Meter()
    drawn = sum(1 for _ in sampler)
    return {"images": drawn, "identities": identities, **meter.read()}


def rank(options: argparse.Namespace, folder: Path) -> Row:
    """Rank a gallery for queries, beside the bare product of their features."""
    del folder
    import torch

    from benchmarks.ranking import synthetic_sets
    from reid_edge.metrics import evaluate_ranking
    from reid_edge.metrics.distances import inner_products_with

    queries, gallery = options.ranked
    arguments = [
        torch.from_numpy(array) for array in synthetic_sets(queries, gallery, 512).values()
    ]
    rows = max(1, 64 * MEBIBYTE // (16 * gallery))
    product = inner_products_with(arguments[3])
    meter = Meter()
    for part in torch.split(arguments[0], rows):
        product(part)
    bare = meter.read()
    meter = Meter()
    result = evaluate_ranking(*arguments)
    measured = meter.read()
    return {
        "queries": queries, "gallery": gallery, **measured,
        "product_seconds": bare["processor_seconds"],
        "times_the_product": round(measured["processor_seconds"] / bare["processor_seconds"], 2),
        "mAP": result.mean_average_precision,
    }  # fmt: skip


def identify_persons(options: argparse.Namespace, folder: Path) -> Row:
    """Enrol embeddings into an index, write and read it, and identify queries one by one."""
    from reid_edge.inference.embedder import EmbeddingSpace
    from reid_edge.inference.faiss_index import search
    from reid_edge.inference.gallery import Entry, Gallery, append, open_gallery, save_gallery
    from reid_edge.inference.recognition import identify

    embeddings, queries, persons = clusters(options.enrolled, options.dimensions, 1000)
    space = EmbeddingSpace("0" * 64, (256, 128))
    entries = [Entry(f"p{who}", f"p{who}/{n}.jpg", f"{n:064x}") for n, who in enumerate(persons)]
    meter = Meter()
    gallery = append(Gallery(space, "model.onnx", options.kind), entries, embeddings)
    built = meter.read()
    meter = Meter()
    save_gallery(folder / "index", gallery)
    written = meter.read()
    size = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file())
    del gallery, entries
    meter = Meter()
    gallery = open_gallery(folder / "index", space)
    assert gallery.index is not None
    opened = meter.read()
    identify(gallery, queries[:1], count=5, threshold=None)
    seconds = []
    for query in queries:
        started = time.perf_counter()
        identify(gallery, query[None], count=5, threshold=None)
        seconds.append(time.perf_counter() - started)
    found = search(gallery.index, queries, 1)[1][:, 0]
    exact = np.concatenate(
        [(part @ embeddings.T).argmax(1) for part in np.array_split(queries, 20)]
    )
    return {
        "kind": options.kind, "enrolled": options.enrolled, "dimensions": options.dimensions,
        "median_milliseconds": round(1000 * float(np.median(seconds)), 3),
        "recall_at_1": float(np.mean(exact == found)),
        "images_a_second": round(options.enrolled / built["wall_seconds"]),
        "file_mebibytes": round(size / MEBIBYTE),
        "build": built, "write": written, "open": opened,
    }  # fmt: skip


def clusters(
    count: int, dimensions: int, queries: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make unit embeddings of persons, queries of the same persons, and the person of each.

    Centres are combinations of a quarter as many factors as there are dimensions, as embeddings of
    trained models are; the cosine of two images of a person is about 0.7.
    """
    generator = np.random.default_rng(0)
    persons = max(2, count // IMAGES_OF_A_PERSON)
    factors = generator.standard_normal((dimensions // 4, dimensions), dtype=np.float32)

    def unit(rows: np.ndarray) -> np.ndarray:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    centres = unit(
        generator.standard_normal((persons, dimensions // 4), dtype=np.float32) @ factors
    )

    def images(who: np.ndarray) -> np.ndarray:
        noise = generator.standard_normal((len(who), dimensions), dtype=np.float32)
        noise *= np.float32(0.65 / dimensions**0.5)
        noise += centres[who]
        return unit(noise)

    who = np.sort(generator.integers(0, persons, count))
    return images(who), images(generator.integers(0, persons, queries)), who


def write_list(folder: Path, lines: int) -> Path:
    """Write images and their list, ``images.csv``."""
    from PIL import Image

    root = folder / "set"
    noise = np.random.default_rng(0).integers(0, 255, (16, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((64, 128), Image.Resampling.BICUBIC)
    root.mkdir()
    with (root / "images.csv").open("w") as file:
        file.write("img_path,person_id,camera_id\n")
        for number in range(lines):
            place, name = divmod(number, IMAGES_IN_FOLDER)
            inside = root / f"folder{place:05d}"
            if name == 0:
                inside.mkdir()
                image.save(inside / "0000.jpg", quality=85)
            else:
                os.link(inside / "0000.jpg", inside / f"{name:04d}.jpg")
            person = number // IMAGES_OF_A_PERSON
            file.write(f"folder{place:05d}/{name:04d}.jpg,{person},{number % 6}\n")
    return root


PARTS: dict[str, Callable[[argparse.Namespace, Path], Row]] = {
    "reading": read_list,
    "check": check_images,
    "start": start_training,
    "drawing": draw_epoch,
    "ranking": rank,
    "identify": identify_persons,
}


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, help="JSON file of the rows")
    parser.add_argument("--only", type=listed("part", PARTS), default=list(PARTS))
    parser.add_argument("--lines", type=at_least(64), default=1_000_000, help="of a list")
    parser.add_argument("--images", type=at_least(64), default=100_000, help="that are looked at")
    parser.add_argument(
        "--ranked", type=_two_numbers, default=(3368, 15913), metavar="QUERIES,GALLERY"
    )
    parser.add_argument("--enrolled", type=at_least(400), default=1_000_000)
    parser.add_argument("--dimensions", type=at_least(8), default=256, help="of enrolled images")
    parser.add_argument("--kind", default="ivf", help="of the index")
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--measure", choices=sorted(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def _two_numbers(text: str) -> tuple[int, int]:
    numbers = text.split(",")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise argparse.ArgumentTypeError(
            f"expected QUERIES,GALLERY such as 3368,15913, found {text!r}"
        )
    return int(numbers[0]), int(numbers[1])


def main(options: argparse.Namespace) -> None:
    """Measure the parts one after the other; print and write their rows."""
    given = sys.argv[1:]
    rows: dict[str, Row] = {}
    for part in options.only:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.large_sets", *given, "--measure", part],
            cwd=ROOT,
            env=os.environ | {limit: str(options.threads) for limit in LIMITS},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows[part] = json.loads(done.stdout.splitlines()[-1])
    if options.output is not None:
        write_json(options.output, rows)
    table = Table(title=f"Large sets, {options.threads} thread(s)", title_justify="left")
    for heading in ("part", "measured"):
        table.add_column(heading)
    for part, row in rows.items():
        table.add_row(part, ", ".join(f"{name} {value}" for name, value in row.items()))
    Console().print(table)


def measure(options: argparse.Namespace) -> Row:
    """Measure one part in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return PARTS[options.measure](options, Path(folder))


if __name__ == "__main__":
    chosen = parse_options()
    if chosen.measure:
        sys.stdout.write(json.dumps(measure(chosen)) + "\n")
    else:
        sys.exit(run_guarded(partial(main, chosen)))

"""Measure what docs/guide/scale.md reckons with: images embedded, steps trained, vectors searched.

    python -m benchmarks.scale

Everything runs on one thread, on images that are drawn for it and on random weights and vectors. It
prints wall time and processor time; on a busy machine take the second one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.command import at_least, make_parser
from pipeline.command import run_guarded
from reid_edge.data.schema import Sample
from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501
from reid_edge.inference.embedded_folder import embed_folder, walk_images
from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.training.losses import SupervisedLoss
from reid_edge.training.settings import LossSettings

DIMENSIONS = 512
SIZE = (256, 128)
BATCH = 32
LISTED = 20_000
QUERIES = 32
NEIGHBOURS = 10


@dataclass(frozen=True)
class Row:
    """A measurement.

    Attributes:
        what: was measured.
        count: of what was done.
        unit: of the count.
        wall: seconds.
        processor: seconds.
    """

    what: str
    count: int
    unit: str
    wall: float
    processor: float


def main(options: argparse.Namespace) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    console = Console()
    for row in chain(
        measure_training(), measure_embedding(options.images), measure_search(options.vectors)
    ):
        console.print(
            f"{row.what}: {row.wall:.2f} s, {row.processor:.2f} s of processor time, "
            f"{row.count / row.processor:,.0f} {row.unit} a second of it"
        )
    Console().print(f"an image in the list of a data set takes {image_bytes():.0f} bytes")
    for name in ("osnet_x1_0", "osnet_x0_5"):
        count = sum(p.numel() for p in build_model(name).parameters())
        Console().print(f"{name}: {count:,} parameters, a gradient of {4 * count / 1e6:.1f} MB")


def image_bytes(images: int = 100_000) -> float:
    """Return the memory that an image takes in the list of a data set."""
    tracemalloc.start()
    samples = [
        Sample(
            Path("/data/images/train") / f"{n // 20:07}" / f"c{n % 6}_{n:08}.jpg", n // 20, n % 6
        )
        for n in range(images)
    ]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(samples)


def timed(what: str, count: int, unit: str, work: Callable[[], object]) -> Row:
    """Measure a call."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Row(what, count, unit, time.perf_counter() - wall, time.process_time() - processor)


def measure_training() -> Iterator[Row]:
    """Measure training steps without data loading: forward, losses, backward."""
    images = torch.randn(BATCH, 3, *SIZE).contiguous(memory_format=torch.channels_last)
    classes = torch.arange(BATCH) // 4
    loss = SupervisedLoss(LossSettings())
    for precision in (torch.float32, torch.bfloat16):
        model = build_model("osnet_x1_0", num_classes=1000).train()
        model = model.to(memory_format=torch.channels_last)

        def step(model: torch.nn.Module = model, precision: torch.dtype = precision) -> None:
            with torch.autocast("cpu", precision, enabled=precision is torch.bfloat16):
                logits, embeddings = model(images)
                terms = loss(logits, embeddings, classes)
            torch.autograd.backward(torch.stack(list(terms.values())).sum())

        step()
        what = f"train osnet_x1_0, {SIZE[0]} x {SIZE[1]}, {precision}, batch {BATCH}"
        yield timed(what, BATCH, "images", step)


def measure_embedding(images: int) -> Iterator[Row]:
    """Measure ``reid-edge embed`` and the listing of a folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = SyntheticSettings(
            train_identities=max(2, images // 8), test_identities=2, cameras=2,
            images_per_camera=4, height=SIZE[0], width=SIZE[1],
        )  # fmt: skip
        write_synthetic_market1501(folder / "images", settings)
        found = sum(1 for _ in walk_images(folder / "images"))
        for architecture in ("osnet_x1_0", "osnet_x0_5"):
            path = folder / f"{architecture}.pt"
            model = build_model(architecture)
            save_checkpoint(path, model, describe(model, architecture, input_size=SIZE))
            embedder = load_embedder(path)
            yield timed(
                f"embed, {architecture} checkpoint, {SIZE[0]} x {SIZE[1]}",
                found,
                "images",
                partial(embed_folder, embedder, folder / "images", folder / architecture),
            )
        many = folder / "many"
        for number in range(LISTED):
            if number % 1000 == 0:
                (many / f"{number // 1000:03}").mkdir(parents=True)
            (many / f"{number // 1000:03}" / f"{number}.jpg").touch()
        yield timed(f"list {LISTED:,} images", LISTED, "names", lambda: list(walk_images(many)))


def measure_search(vectors: int) -> Iterator[Row]:
    """Measure exact search with FAISS."""
    import faiss

    faiss.omp_set_num_threads(1)
    generator = np.random.default_rng(0)
    base = generator.standard_normal((vectors, DIMENSIONS), dtype=np.float32)
    queries = generator.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32)
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(base)
    yield timed(
        f"exact search of {QUERIES} together, {vectors:,} vectors",
        QUERIES * vectors,
        "comparisons",
        lambda: flat.search(queries, NEIGHBOURS),
    )
    yield timed(
        f"exact search of one, {vectors:,} vectors",
        vectors,
        "comparisons",
        lambda: flat.search(queries[:1], NEIGHBOURS),
    )


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--images", type=at_least(8), default=256)
    parser.add_argument("--vectors", type=at_least(20_000), default=200_000)
    return parser.parse_args()


if __name__ == "__main__":
    options = parse_options()
    raise SystemExit(run_guarded(lambda: main(options)))

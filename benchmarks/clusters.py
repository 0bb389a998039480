"""How good the clusters are that an adaptation begins with, by number of neighbours and distance.

    python -m benchmarks.clusters --model osnet_x1_0_msmt17.pth --data CUHK03 --size 256,128
    python -m benchmarks.clusters ... --images-per-person 99,5 --k1 30,15,8,none --eps 0.5

The training images of a labelled data set are clustered without their labels. Then the labels say
which pairs of one cluster show one person (precision), and which pairs of one person are in one
cluster (recall).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Hashable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.adaptation import load_given
from benchmarks.command import at_least, decimal_numbers, make_parser, size
from pipeline.command import run_guarded
from reid_edge.adaptation.clustering import OUTLIER, ClusterOptions, find_clusters
from reid_edge.adaptation.site import Site
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.inference.features import embed_images

Integers = NDArray[np.int64]


def main(options: argparse.Namespace) -> None:
    """Embed the images once, cluster them in every way, print the table."""
    torch.set_num_threads(options.threads)
    images = read_market1501(options.data).train
    height, width = options.size
    embeddings = embed_images(load_given(options.model), images, height=height, width=width)
    persons = np.array([image.person for image in images])
    cameras = np.array([image.camera for image in images])
    shown = Table(title=f"{options.model.name}, {height} x {width}", title_justify="left")
    for heading in (
        "images of each",
        "k1",
        "eps",
        "persons",
        "clusters",
        "outliers",
        "precision",
        "recall",
        "F1",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for most in options.images_per_person:
        kept = some_of_each(persons, most)
        for eps in options.eps:
            for k1 in options.k1:
                labels = find_clusters(
                    embeddings[torch.from_numpy(kept)],
                    Site(cameras=cameras[kept]),
                    ClusterOptions(k1=k1, eps=eps),
                ).labels
                precision, recall = pair_scores(labels, persons[kept])
                both = precision + recall
                shown.add_row(
                    f"{len(kept) / len(np.unique(persons)):.1f}", str(k1 or "chosen"), f"{eps:g}",
                    str(len(np.unique(persons))), str(labels.max() + 1),
                    str((labels == OUTLIER).sum()), f"{precision:.3f}", f"{recall:.3f}",
                    f"{2 * precision * recall / both if both else 0:.3f}",
                )  # fmt: skip
    Console(width=110).print(shown)


def some_of_each(persons: Integers, most: int) -> Integers:
    """Return the places of at most so many images of each person, by chance, in order."""
    generator = np.random.default_rng(0)
    places = [
        generator.permutation(np.flatnonzero(persons == person))[:most]
        for person in np.unique(persons)
    ]
    return np.sort(np.concatenate(places))


def pair_scores(labels: Integers, persons: Integers) -> tuple[float, float]:
    """Return precision and recall of the pairs of images that are in one cluster.

    Args:
        labels: cluster of each image, -1 for those in none.
        persons: of the images.
    """
    inside = labels != OUTLIER
    together = pairs(labels[inside].tolist())
    right = pairs(zip(labels[inside].tolist(), persons[inside].tolist(), strict=True))
    return right / max(together, 1), right / max(pairs(persons.tolist()), 1)


def pairs(of: Iterable[Hashable]) -> int:
    """Return the number of pairs of equal values."""
    return sum(count * (count - 1) // 2 for count in Counter(of).values())


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="checkpoint")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder in the Market-1501 layout, with labels"
    )
    parser.add_argument("--size", type=size, default=(256, 128), help="height,width")
    parser.add_argument("--images-per-person", type=numbers, default=[1000, 5, 3])
    parser.add_argument("--k1", type=neighbours, default=[30, 20, 15, 10, 8, None])
    parser.add_argument("--eps", type=decimal_numbers, default=[0.5])
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Read numbers, separated by commas."""
    return [at_least(1)(part) for part in text.split(",")]


def neighbours(text: str) -> list[int | None]:
    """Read numbers of neighbours; "none": as they are chosen."""
    return [None if part == "none" else at_least(1)(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

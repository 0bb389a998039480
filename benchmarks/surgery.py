"""Seconds of a cut, step by step, beside Torch-Pruning's.

    python -m benchmarks.surgery
    python -m benchmarks.surgery --source osnet_x1_0 --target osnet_x0_25 --iterations 5

In every iteration both cut the same model to the same widths, one after the other. The next
iteration starts from our result for both. Torch-Pruning finds groups and removes channels. Ours
also tries the plan on small images, masks, and compares the masked with the compact model.
Reconstruction has no counterpart there. ``pip install torch-pruning==1.6.1``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.command import at_least, make_parser
from benchmarks.torch_pruning_cut import import_torch_pruning, torch_pruning_cut
from pipeline.command import run_guarded
from pipeline.target_widths import TRACE_SIZE
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plans import linear_plan
from prune.reconstruct import reconstruct
from prune.surgery import cut
from reid_edge.models.registry import build_model

STEPS = (
    "groups", "trial", "scores", "masks", "surgery", "check", "reconstruction", "Torch-Pruning",
)  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Cut as often as asked, print medians by step and iteration."""
    torch.set_num_threads(options.threads)
    # What is imported and built at a first call belongs to no step.
    _, *runs = [cut_in_turn(options) for _ in range(1 + options.repeats)]
    Console().print(table(options, runs))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--source", default="osnet_x1_0")
    parser.add_argument("--target", default="osnet_x0_5")
    parser.add_argument("--iterations", type=at_least(1), default=3)
    parser.add_argument(
        "--repeats", type=at_least(1), default=3, help="after one that is not timed"
    )
    parser.add_argument("--images", type=at_least(1), default=128, help="for reconstruction")
    parser.add_argument("--height", type=at_least(1), default=128)
    parser.add_argument("--width", type=at_least(1), default=64)
    parser.add_argument("--threads", type=at_least(1), default=2)
    return parser.parse_args()


def cut_in_turn(options: argparse.Namespace) -> list[dict[str, float]]:
    """Return the seconds of every step, an entry an iteration."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(options.source, num_classes=100).eval()
    target = build_model(options.target, num_classes=100)
    import_torch_pruning()
    images = torch.randn(options.images, 3, options.height, options.width, generator=generator)
    small = torch.randn(2, 3, *TRACE_SIZE, generator=generator)
    started = time.perf_counter()
    groups = find_groups(model, small)
    found = time.perf_counter() - started
    seconds = []
    for widths in linear_plan(layer_widths(model), layer_widths(target), options.iterations):
        theirs = timed(lambda: torch_pruning_cut(model, widths, example=small))  # noqa: B023
        ours = cut(model, widths, example=small, check_input=images[:4], groups=groups)
        # Groups are given: what `cut` calls so is the copy, the trace and the trial of the plan.
        entry = {**ours.seconds, "trial": ours.seconds["groups"], "groups": found}
        entry["Torch-Pruning"] = theirs
        entry["reconstruction"] = reconstruction_seconds(ours.model, model, ours.kept, images)
        seconds.append(entry)
        found, model = 0.0, ours.model
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds some work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def reconstruction_seconds(
    compact: nn.Module, before: nn.Module, kept: dict[str, Tensor], images: Tensor
) -> float:
    """Return how many seconds reconstruction takes."""
    return timed(lambda: reconstruct(compact, before, kept, images))


def table(options: argparse.Namespace, runs: list[list[dict[str, float]]]) -> Table:
    """Return the medians over the repeats, one line a step."""
    shown = Table(
        title=f"Seconds of a cut, {options.source} -> {options.target}, "
        f"{options.height} x {options.width}, {options.threads} thread(s), "
        f"median of {options.repeats}",
        title_justify="left",
    )
    shown.add_column("step")
    for number in range(1, options.iterations + 1):
        shown.add_column(f"iteration {number}", justify="right")
    for step in STEPS:
        values = [median(run[i].get(step, 0.0) for run in runs) for i in range(options.iterations)]
        shown.add_row(step, *(f"{value:.2f}" for value in values))
    return shown


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

"""Time what costs a step of PyTorch besides the layers: freed memory, and layouts of gradients.

    python -m benchmarks.step_time
    python -m benchmarks.step_time --size 128,64 --batch 32

OSNet x1.0 with random weights, one thread: a forward pass, and a training step in float32 and in
bfloat16. Freed memory is given back to the operating system, or kept in the process; "one layout"
also gives the gradient of global pooling the layout of its input. The ways take turns, each in a
process of its own. Processor time is that of the program and that of the operating system, which
clears pages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, make_parser, size
from pipeline.command import run_guarded
from quantize.machine import machine_description

WORK = ("forward", "32-true", "bf16-mixed")
WAYS = ("given back", "kept", "kept, one layout")


def main(options: argparse.Namespace) -> None:
    """Run the ways in turns, and print medians."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for work in WORK:
            for way in WAYS[:2] if work == "forward" else WAYS:
                found.setdefault((work, way), []).append(run_process(options, work, way))
    height, width = options.size
    title = f"OSNet x1.0, {options.batch} images of {height} x {width}, {machine_description().cpu}"
    table = Table(title=title)
    for heading in ("work", "freed memory", "seconds", "of the system", "peak memory, MiB"):
        table.add_column(heading)
    for (work, way), runs in found.items():
        seconds, system, peak = (median(values) for values in zip(*runs, strict=True))
        base = median(run[0] for run in found[work, WAYS[0]])
        table.add_row(
            work, way, f"{seconds:.3f} ({seconds / base:.2f} x)", f"{system:.3f}", f"{peak:.0f}"
        )
    Console().print(table)


def run_process(options: argparse.Namespace, work: str, way: str) -> list[float]:
    """Measure in a fresh process; return seconds of a step, the system's of these, and the peak."""
    given = [f"--batch={options.batch}", f"--steps={options.steps}"]
    given.append(f"--size={options.size[0]},{options.size[1]}")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.step_time", *given, "--measure", work, way],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(value) for value in json.loads(done.stdout)]


def measure(options: argparse.Namespace, work: str, way: str) -> None:
    """Print seconds of processor time of a step, the system's of these, and the peak in MiB."""
    import torch

    from reid_edge.core.memory import freed_memory_kept
    from reid_edge.models import build_model
    from reid_edge.training.pooling_gradient import channels_last_pooling_gradients

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model("osnet_x1_0").to(memory_format=torch.channels_last)
    images = torch.randn(options.batch, 3, *options.size)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with torch.inference_mode():
            model(images)

    def train() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=work == "bf16-mixed"):
            logits, embeddings = model(images)
        (logits.float().sum() + embeddings.float().sum()).backward()
        model.zero_grad()

    step: Callable[[], None] = forward if work == "forward" else train
    model.train(work != "forward")
    with contextlib.ExitStack() as changes:
        if way != WAYS[0]:
            changes.enter_context(freed_memory_kept())
        if way == WAYS[2]:
            changes.enter_context(channels_last_pooling_gradients(model))
        step()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(options.steps):
            step()
        after = resource.getrusage(resource.RUSAGE_SELF)
    system = (after.ru_stime - before.ru_stime) / options.steps
    user = (after.ru_utime - before.ru_utime) / options.steps
    sys.stdout.write(json.dumps([user + system, system, after.ru_maxrss / 1024]))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=size, default=(256, 128), help="of the images")
    parser.add_argument("--batch", type=at_least(2), default=64, help="images in a batch")
    parser.add_argument("--steps", type=at_least(1), default=3)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse_options()
    if chosen.measure:
        measure(chosen, *chosen.measure)
    else:
        sys.exit(run_guarded(partial(main, chosen)))

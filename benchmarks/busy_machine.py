"""Time a training step of two threads alone and beside other work, with and without spinning.

    python -m benchmarks.busy_machine
    python -m benchmarks.busy_machine --rounds 5 --busy 0,4

Every measurement is a process of its own; the ways to wait take turns. ``default`` is what PyTorch
does by itself; the commands of this program set ``GOMP_SPINCOUNT`` (reid_edge/core/openmp.py).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, make_parser
from pipeline.command import run_guarded
from quantize.machine import machine_description
from reid_edge.core.openmp import SPIN_COUNT

WAYS: dict[str, dict[str, str]] = {
    "default": {},
    f"GOMP_SPINCOUNT={SPIN_COUNT}": {"GOMP_SPINCOUNT": SPIN_COUNT},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
}
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
STEPS = 5
# A step may take half a minute; then it is the only one.
SECONDS = 20.0
BUSY_LOOP = "while True: pass"


def main() -> None:
    """Print medians of a step's time and the ratio to the default on an idle machine."""
    options = parse_arguments()
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(options.rounds):
        for busy in options.busy:
            for way in WAYS:
                times.setdefault((way, busy), []).append(_measure(WAYS[way], busy))
    table = Table(title=f"seconds of a training step, 2 threads, {machine_description().cpu}")
    table.add_column("threads wait by")
    for busy in options.busy:
        table.add_column(f"beside {busy} busy loops", justify="right")
    base = median(times["default", options.busy[0]])
    for way in WAYS:
        medians = [median(times[way, busy]) for busy in options.busy]
        table.add_row(way, *(f"{value:.3f} ({value / base:.2f}x)" for value in medians))
    Console().print(table)


def parse_arguments() -> argparse.Namespace:
    """Read the options."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=at_least(1), default=3, help="turns (default: 3)")
    parser.add_argument(
        "--busy",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[0, 2, 4],
        help="processes that only count, beside the step (default: 0,2,4)",
    )
    return parser.parse_args()


def time_steps() -> None:
    """Print the median time of a step of OSNet x0.25 on 16 images of 128x64 pixels."""
    import torch

    from reid_edge.models import build_model

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=8).train()
    images = torch.randn(16, 3, 128, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    times: list[float] = []
    began = time.monotonic()
    while len(times) <= STEPS and (not times or time.monotonic() - began < SECONDS):
        start = time.perf_counter()
        optimizer.zero_grad()
        logits, embeddings = model(images)
        (logits.square().mean() + embeddings.square().mean()).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    # The first step allocates memory, and counts only if there is no other.
    sys.stdout.write(f"{median(times[1:] or times)}\n")


def _measure(way: dict[str, str], busy: int) -> float:
    kept = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    loops = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(busy)]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.busy_machine", "--step"],
            env=kept | way,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return float(ended.stdout)


if __name__ == "__main__":
    if "--step" in sys.argv:
        time_steps()
    else:
        sys.exit(run_guarded(main))

"""Images a second of a training, loading included, beside torchreid's engine on the same images.

    python -m benchmarks.training --output training.json
    python -m benchmarks.training --data /path/to/Market-1501 --height 256 --width 128 --threads 2

Each way trains in a process of its own, in turns. Images, batches (8 identities x 4 images), losses
(softmax with label smoothing and triplet), optimizer (Adam with amsgrad) and augmentation (flip and
random crop) are the same in kind. The first steps are not counted. torchreid's ImageTripletEngine
runs as it is, where it can be imported (``pip install torchreid==0.2.5``). "plain" is this
repository with its defaults, "fast" with ``precision=bf16-mixed``, ``fused_optimizer`` and
``data.cache``, "fast-32" the same in float32; "-teacher" imitates an OSNet x1.0 besides, "-cached"
its embeddings of the images as they are. "fast-two" is "fast" in two processes, each with such a
batch and its share of ``--threads``, by the wall clock.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, listed, make_parser
from pipeline.command import run_guarded
from reid_edge.core.devices import Precision
from reid_edge.core.io import write_json

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
IDENTITIES, IMAGES = 8, 4
BATCH = IDENTITIES * IMAGES
UNCOUNTED_STEPS = 3


@dataclass(frozen=True)
class Way:
    """How this repository trains.

    Attributes:
        precision: arithmetic, as Lightning names it.
        fused_optimizer: update all weights in one kernel.
        cache: decode each image once.
        taught: by nothing, by an OSNet x1.0, or by a table of its embeddings.
        devices: processes; each has a batch of its own.
    """

    precision: Precision = "32-true"
    fused_optimizer: bool = False
    cache: bool = False
    taught: Literal["", "model", "table"] = ""
    devices: int = 1


FAST = Way(precision="bf16-mixed", fused_optimizer=True, cache=True)
OWN_WAYS = {
    "plain": Way(),
    "fast": FAST,
    "fast-32": replace(FAST, precision="32-true"),
    "plain-teacher": Way(taught="model"),
    "fast-teacher": replace(FAST, taught="model"),
    "fast-cached": replace(FAST, taught="table"),
    "fast-two": replace(FAST, devices=2),
}


def train_with_reid_edge(options: argparse.Namespace, folder: Path, way: Way) -> list[float]:
    """Train with this repository; return the seconds of every step.

    The pass over all images that fills the table of a cached teacher is not counted.
    """
    import torch

    from benchmarks.training_clock import StepClock
    from reid_edge.data.augmentation import AugmentationSettings
    from reid_edge.data.readers.market1501 import read_market1501
    from reid_edge.data.schema import count_persons
    from reid_edge.models.registry import build_model
    from reid_edge.training.distillation import Teacher
    from reid_edge.training.fit import fit
    from reid_edge.training.fit_config import FitConfig
    from reid_edge.training.settings import DistillationSettings, TrainingSettings

    images = read_market1501(options.data).train
    persons = count_persons(images)
    torch.manual_seed(0)
    model = build_model(options.model, num_classes=persons)
    weights, teacher = DistillationSettings(hints=0.0), None
    if way.taught == "model":
        teacher = Teacher(build_model("osnet_x1_0", num_classes=persons), weights)
    if way.taught == "table":
        teacher = Teacher(torch.nn.Identity(), weights, table=torch.randn(len(images), 512))
    settings = TrainingSettings(
        epochs=1000,
        identities_per_batch=IDENTITIES,
        images_per_identity=IMAGES,
        optimizer="amsgrad",
        augmentation=AugmentationSettings(crop_padding=8),
        precision=way.precision,
        fused_optimizer=way.fused_optimizer,
    )
    config = FitConfig(
        images=images, settings=settings, height=options.height, width=options.width, seed=0,
        folder=folder, label="benchmark", accelerator="auto", workers=options.workers,
        devices=way.devices, teacher=teacher, cache=folder / "image_cache" if way.cache else None,
        callbacks=[StepClock(folder / "ends.json", options.clock, options.steps)],
    )  # fmt: skip
    fit(model, config)
    ends = json.loads((folder / "ends.json").read_text())
    return [end - start for start, end in itertools.pairwise(ends)]


def train_with_torchreid(options: argparse.Namespace, folder: Path) -> list[float]:
    """Train with torchreid's engine; return the seconds of every step."""
    import torch
    import torchreid
    from torchreid.reid import data, engine, models, optim

    from benchmarks.training_clock import CLOCKS
    from reid_edge.data.readers.market1501 import read_market1501
    from reid_edge.data.schema import relabel

    read = read_market1501(options.data)
    classes = relabel(read.train)

    class Images(data.ImageDataset):  # type: ignore[misc]
        def __init__(self, root: str = "", **more: Any) -> None:
            del root
            train = [
                (str(image.path), label, image.camera)
                for image, label in zip(read.train, classes, strict=True)
            ]
            query, gallery = (
                [(str(image.path), image.person, image.camera) for image in split]
                for split in (read.query, read.gallery)
            )
            super().__init__(train, query, gallery, **more)

    class EnoughError(Exception):
        pass

    ends: list[float] = []

    class Timed(engine.ImageTripletEngine):  # type: ignore[misc]
        def forward_backward(self, given: Any) -> Any:
            summary = super().forward_backward(given)
            ends.append(CLOCKS[options.clock]())
            if len(ends) > options.steps:
                raise EnoughError
            return summary

    data.register_image_dataset("benchmark", Images)
    manager = data.ImageDataManager(
        root=str(folder), sources="benchmark", height=options.height, width=options.width,
        transforms=["random_flip", "random_crop"], batch_size_train=BATCH, batch_size_test=64,
        workers=options.workers, num_instances=IMAGES, train_sampler="RandomIdentitySampler",
    )  # fmt: skip
    torch.manual_seed(0)
    model = models.build_model(
        options.model, num_classes=manager.num_train_pids, loss="triplet", pretrained=False
    )
    if torch.cuda.is_available():
        model = model.cuda()
    optimizer = optim.build_optimizer(model, optim="amsgrad", lr=0.00035)
    schedule = optim.build_lr_scheduler(optimizer, lr_scheduler="single_step", stepsize=20)
    del torchreid
    with contextlib.suppress(EnoughError):
        Timed(manager, model, optimizer=optimizer, scheduler=schedule).run(
            save_dir=str(folder), max_epoch=1000, eval_freq=-1
        )
    return [end - start for start, end in itertools.pairwise(ends)]


WAYS: dict[str, Callable[[argparse.Namespace, Path], list[float]]] = {
    "torchreid": train_with_torchreid,
    **{name: partial(train_with_reid_edge, way=way) for name, way in OWN_WAYS.items()},
}


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder in the layout of Market-1501")
    parser.add_argument("--output", type=Path, help="JSON file of the result")
    parser.add_argument("--model", default="osnet_x1_0", help="as both name it")
    parser.add_argument("--height", type=at_least(16), default=128)
    parser.add_argument("--width", type=at_least(16), default=64)
    parser.add_argument("--steps", type=at_least(UNCOUNTED_STEPS + 1), default=12)
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--workers", type=at_least(0), default=1, help="that load images")
    parser.add_argument("--clock", choices=("processor", "wall"), default="wall")
    parser.add_argument("--only", type=listed("way", WAYS), default=list(WAYS))
    parser.add_argument("--measure", choices=sorted(WAYS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    several = [name for name in options.only if devices_of(name) > 1]
    if options.clock == "processor" and several:
        parser.error(f"--clock processor: counts one process; time {several[0]} by the wall clock")
    return options


def devices_of(name: str) -> int:
    """Return in how many processes a way trains."""
    return OWN_WAYS[name].devices if name in OWN_WAYS else 1


def main(options: argparse.Namespace) -> None:
    """Train in turns; print and write images a second."""
    with tempfile.TemporaryDirectory() as folder:
        if options.data is None:
            from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501

            options.data = Path(folder) / "images"
            write_synthetic_market1501(options.data, SyntheticSettings(train_identities=32))
        found: dict[str, list[float]] = {name: [] for name in options.only}
        missing: dict[str, str] = {}
        for _ in range(options.rounds):
            for name in (one for one in options.only if one not in missing):
                measured = run_process(name, options)
                if isinstance(measured, str):
                    missing[name] = measured
                else:
                    found[name].append(measured)
    rates = {name: median(values) for name, values in found.items() if values}
    base = rates.get("torchreid")
    result = {
        "images_a_second": {name: round(rate, 2) for name, rate in rates.items()},
        "rounds": {name: [round(value, 2) for value in values] for name, values in found.items()},
        "times_torchreid": {n: round(rate / base, 2) for n, rate in rates.items()} if base else {},
        "missing": missing,
        "model": options.model, "size": [options.height, options.width], "batch": BATCH,
        "threads": options.threads, "workers": options.workers,
        "clock": options.clock,
    }  # fmt: skip
    if options.output is not None:
        write_json(options.output, result)
    table = Table(title=f"{options.model}, {options.height} x {options.width}, images a second")
    for heading in ("way", "images a second", "times torchreid"):
        table.add_column(heading)
    for name in options.only:
        rate = f"{rates[name]:.1f}" if name in rates else missing[name]
        table.add_row(name, rate, f"{rates[name] / base:.2f}" if base and name in rates else "")
    Console().print(table)


def run_process(name: str, options: argparse.Namespace) -> float | str:
    """Train in a fresh process; return images a second, or why it cannot train."""
    given = [
        f"--{key}={getattr(options, key)}"
        for key in ("data", "model", "height", "width", "steps", "threads", "workers", "clock")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *given, "--measure", name],
        cwd=ROOT,
        env=os.environ | {limit: str(options.threads) for limit in LIMITS},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
    seconds = json.loads(done.stdout.splitlines()[-1])[UNCOUNTED_STEPS:]
    return BATCH * devices_of(name) * len(seconds) / float(sum(seconds))


if __name__ == "__main__":
    chosen = parse_options()
    if chosen.measure:
        import torch

        torch.set_num_threads(chosen.threads)
        with tempfile.TemporaryDirectory() as place:
            measured = WAYS[chosen.measure](chosen, Path(place))
        sys.stdout.write(f"\n{json.dumps(measured)}\n")
    else:
        sys.exit(run_guarded(partial(main, chosen)))

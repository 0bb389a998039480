"""Whether the go / no-go of an adaptation is right, on ten good and ten spoiled cases.

    python -m benchmarks.adaptation --model osnet_x0_25_msmt17.pth --data CUHK03 --output runs/cases
    python -m benchmarks.adaptation ... --size 128,64 --images 1500 --epochs 3 --cases usual,noise
    python -m benchmarks.adaptation --output runs/cases --table

The training images of a labelled data set are a site whose labels nothing sees; the last figure,
mAP on query and gallery, uses them. A decision is right if the adapted model is kept and not worse,
or the old one stays and less than one point was lost by that. The column "copy" is the distance of
an image to a changed copy, as a share of that to other images. A stopped benchmark is resumed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.command import at_least, is_there, listed, logger, make_parser, size
from pipeline.command import run_guarded
from reid_edge.adaptation.adapt import AdaptConfig
from reid_edge.adaptation.adaptation_settings import AdaptationSettings
from reid_edge.adaptation.decision import Outcome, adapt_and_judge
from reid_edge.adaptation.site import Site
from reid_edge.core.backends import load_model_file
from reid_edge.core.errors import DataError, ModelError, PipelineError, one_line
from reid_edge.core.io import hash_file, write_json
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData, Sample, label_tensors
from reid_edge.inference.features import embed_images
from reid_edge.metrics import evaluate_ranking

APART_SHARE = 0.25
TOLERATED = 0.01
ONE_PERSON_IMAGES, NOISE_IMAGES = 200, 300
RESULT = "case.json"

Choose = Callable[[list[Sample], np.random.Generator, Path], list[Sample]]
Pixels = NDArray[np.uint8]


def everything(images: list[Sample], _: np.random.Generator, __: Path) -> list[Sample]:
    """Take all images."""
    return images


def half(images: list[Sample], generator: np.random.Generator, _: Path) -> list[Sample]:
    """Take every second image, by chance."""
    return [images[i] for i in generator.permutation(len(images))[: len(images) // 2]]


def camera(number: int) -> Choose:
    """Return what takes the images of one camera."""
    return lambda images, _, __: [image for image in images if image.camera == number]


def strangers(count: int, of_each: int) -> Choose:
    """Return what takes a few images of each of some persons."""

    def choose(images: list[Sample], generator: np.random.Generator, _: Path) -> list[Sample]:
        persons = generator.permutation(sorted({image.person for image in images}))[:count]
        found: list[Sample] = []
        for person in persons:
            members = [image for image in images if image.person == person]
            order = generator.permutation(len(members))[:of_each]
            found += [members[i] for i in order]
        return found

    return choose


def one_person(rank: int) -> Choose:
    """Return what makes many images of the person with the most images, or the next ones."""

    def choose(images: list[Sample], generator: np.random.Generator, folder: Path) -> list[Sample]:
        persons = sorted({image.person for image in images})
        counts = [sum(image.person == person for image in images) for person in persons]
        person = persons[int(np.argsort(counts, kind="stable")[-1 - rank])]
        members = [image for image in images if image.person == person]

        def draw(number: int) -> Pixels:
            image = Image.open(members[number % len(members)].path).convert("RGB")
            pixels = np.asarray(image, dtype=np.float64)
            shift = int(generator.integers(-6, 7)), int(generator.integers(-4, 5))
            pixels = np.roll(pixels, shift, (0, 1)) * generator.uniform(0.8, 1.2)
            pixels += generator.uniform(-15, 15) + generator.normal(0, 4, pixels.shape)
            flipped = pixels[:, ::-1] if generator.random() < 0.5 else pixels
            return flipped.clip(0, 255).astype(np.uint8)

        return _write(folder, draw, ONE_PERSON_IMAGES)

    return choose


def noise(grid: tuple[int, int]) -> Choose:
    """Return what draws random colours on a grid, enlarged to images."""

    def choose(_: list[Sample], generator: np.random.Generator, folder: Path) -> list[Sample]:
        def draw(_: int) -> Pixels:
            pixels = generator.integers(0, 256, (*grid, 3), dtype=np.uint8)
            return np.asarray(Image.fromarray(pixels).resize((64, 128), Image.Resampling.BILINEAR))

        return _write(folder, draw, NOISE_IMAGES)

    return choose


def _write(folder: Path, draw: Callable[[int], Pixels], count: int) -> list[Sample]:
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(draw(number)).save(path, quality=92)
        found.append(Sample(path, 0, number % 2 + 1))
    return found


@dataclass(frozen=True)
class Case:
    """A site and a way to adapt to it.

    Attributes:
        says: what it is.
        good: whether an adaptation should gain.
        settings: that differ from those of the command.
        choose: the images of the site, of all.
        cameras: whether they are known.
        tracks: whether tracks are known: the images of a person on a camera.
        rate: factor of the learning rate.
    """

    says: str
    good: bool
    settings: dict[str, Any] = field(default_factory=dict)
    choose: Choose = everything
    cameras: bool = True
    tracks: bool = False
    rate: float = 1.0


CASES: dict[str, Case] = {
    "usual": Case("as it is", True),
    "seed": Case("another seed", True),
    "slow": Case("a third of the learning rate", True, rate=1 / 3),
    "eps_04": Case("eps 0.4", True, {"eps": 0.4}),
    "eps_06": Case("eps 0.6", True, {"eps": 0.6}),
    "half": Case("half of the images", True, choose=half),
    "eight": Case(
        "8 x 8 images in a batch", True, {"clusters_per_batch": 8, "images_per_cluster": 8}
    ),
    "k1_20": Case("k1 20", True, {"k1": 20}),
    "no_cameras": Case("cameras not known", True, cameras=False),
    "tracks": Case("tracks known", True, tracks=True),
    "rate_30": Case("learning rate times 30", False, rate=30),
    "rate_100": Case("learning rate times 100", False, rate=100),
    "camera_1": Case("camera 1 alone", False, choose=camera(1)),
    "camera_2": Case("camera 2 alone", False, choose=camera(2)),
    "person": Case("one person", False, choose=one_person(0)),
    "another": Case("another single person", False, choose=one_person(1)),
    "noise": Case("noise", False, choose=noise((128, 64))),
    "blots": Case("coloured blots", False, choose=noise((8, 4))),
    "few": Case("2 images of each of 60 persons", False, choose=strangers(60, 2)),
    "fewer": Case("10 images of each of 8 persons", False, choose=strangers(8, 10)),
}  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Run the cases that are not there yet, print the table."""
    if not options.table:
        torch.set_num_threads(options.threads)
        given = load_given(options.model)
        data = read_market1501(options.data)
        before = None
        for name in options.cases:
            settings = settings_of(name, options)
            path = options.output / name / RESULT
            if is_there(path, settings):
                continue
            before = accuracy(given, data, options) if before is None else before
            run_case(name, given, data, before, settings, options)
    Console().print(table(options.output))


def load_given(path: Path) -> nn.Module:
    """Load the model that is adapted."""
    module = load_model_file(path).module
    if module is None:
        raise ModelError(f"{path}: is no checkpoint; --model must name one")
    return module


def settings_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the result of a case depends on."""
    return {
        "model": hash_file(options.model), "data": str(options.data), "size": list(options.size),
        "images": options.images, "epochs": options.epochs, "precision": options.precision,
        "adaptation": adaptation(name, options).model_dump(mode="json"),
    }  # fmt: skip


def adaptation(name: str, options: argparse.Namespace) -> AdaptationSettings:
    """Return the settings of the adaptation of a case."""
    case = CASES[name]
    rate = AdaptationSettings().learning_rate * case.rate
    return AdaptationSettings(
        **{
            "epochs": options.epochs, "precision": options.precision, "learning_rate": rate,
            **case.settings,
        }
    )  # fmt: skip


def site_images(data: ReidData, most: int) -> list[Sample]:
    """Return the images of as many persons as have that many images, in an order of chance."""
    generator = np.random.default_rng(0)
    persons = generator.permutation(sorted({image.person for image in data.train})).tolist()
    found: list[Sample] = []
    for person in persons:
        if len(found) >= most:
            break
        found += [image for image in data.train if image.person == person]
    return [found[i] for i in generator.permutation(len(found))]


def run_case(
    name: str,
    given: nn.Module,
    data: ReidData,
    before: float,
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Adapt and judge as the stage does, measure with labels, and write the result."""
    logger.info("adaptation: %s", name)
    case, folder = CASES[name], options.output / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = np.random.default_rng(1)
    images = case.choose(site_images(data, options.images), generator, folder / "images")
    count = round(APART_SHARE * len(images))
    apart, learned = images[:count], images[count:]
    if case.tracks:
        # Whole tracks are set apart, as the program does.
        tracks = sorted({(image.person, image.camera) for image in images})
        chosen = {tracks[i] for i in generator.permutation(len(tracks))[: len(tracks) // 4]}
        apart = [image for image in images if (image.person, image.camera) in chosen]
        learned = [image for image in images if (image.person, image.camera) not in chosen]
    height, width = options.size
    config = AdaptConfig(
        images=[replace(image, person=0) for image in learned],
        site=site_of_case(case, learned),
        settings=adaptation(name, options),
        height=height,
        width=width,
        seed=int(name == "seed"),
        folder=folder,
        label=name,
    )
    try:
        outcome = adapt_and_judge(
            given, config, [replace(image, person=0) for image in apart], site_of_case(case, apart)
        )
    except (DataError, ModelError) as error:
        outcome = Outcome(None, False, one_line(error))
    after = None
    if outcome.model is not None:
        try:
            after = accuracy(outcome.model, data, options)
        except ModelError:
            after = 0.0  # all embeddings are the same, or not finite
    write_json(
        folder / RESULT,
        {
            "settings": settings, "says": case.says, "good": case.good, "kept": outcome.better,
            "reason": outcome.reason, "before": before, "after": after,
            "separation": outcome.separation,
            "figures": [vars(figure) for figure in outcome.figures],
            "clusters": [[one.clusters, one.outliers] for one in outcome.epochs],
        },
    )  # fmt: skip


def site_of_case(case: Case, images: Sequence[Sample]) -> Site:
    """Return what a case says of its images."""
    cameras = np.array([image.camera for image in images], dtype=np.int64)
    if not case.tracks:
        return Site(cameras=cameras if case.cameras else None)
    return Site(
        cameras=cameras,
        tracks=np.array([image.person * 10 + image.camera for image in images], dtype=np.int64),
    )


def accuracy(model: nn.Module, data: ReidData, options: argparse.Namespace) -> float:
    """Return the mAP on query and gallery, with labels."""
    height, width = options.size
    query, gallery = (
        embed_images(model, images, height=height, width=width)
        for images in (data.query, data.gallery)
    )
    return evaluate_ranking(
        query, *label_tensors(data.query), gallery, *label_tensors(data.gallery)
    ).mean_average_precision


def is_right(kept: bool, before: float, after: float | None) -> bool:
    """Return whether a decision is right; a model that was not adapted could not have gained."""
    gained = 0.0 if after is None else after - before
    return gained >= 0 if kept else gained < TOLERATED


def table(output: Path) -> Table:
    """Return what the folder holds, a line for each case."""
    found = [json.loads(path.read_text()) for path in output.glob(f"*/{RESULT}")]
    if not found:
        raise PipelineError(f"{output}: no cases there yet; leave --table out to run some")
    found.sort(key=lambda one: (not one["good"], one["says"]))
    right = [is_right(one["kept"], one["before"], one["after"]) for one in found]
    shown = Table(title=f"Go / no-go: {sum(right)} of {len(right)} right", title_justify="left")
    for heading in ("case", "decision", "mAP before", "after", "right", "copy", "reason"):
        shown.add_column(heading)
    for one, fits in zip(found, right, strict=True):
        shown.add_row(
            one["says"], "go" if one["kept"] else "no-go", f"{one['before']:.1%}",
            "-" if one["after"] is None else f"{one['after']:.1%}", "yes" if fits else "no",
            "-" if one["separation"] is None else f"{one['separation']:.0%}", one["reason"],
        )  # fmt: skip
    return shown


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint of the model to adapt")
    parser.add_argument("--data", type=Path, help="folder in the Market-1501 layout, with labels")
    parser.add_argument("--output", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--cases", type=listed("case", CASES), default=list(CASES))
    parser.add_argument("--size", type=size, default=(128, 64), help="height,width")
    parser.add_argument("--images", type=at_least(64), default=1500, help="of the site")
    parser.add_argument("--epochs", type=at_least(1), default=3)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table and (options.model is None or options.data is None):
        parser.error("--model and --data are needed to run cases")
    return options


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

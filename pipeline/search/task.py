"""The folder with all that a trial needs; NNI copies it to other machines."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import pipeline
import prune
import quantize
import reid_edge
from pipeline.settings.cut_sections import CriterionName
from pipeline.settings.section import Settings
from pipeline.target_widths import TRACE_SIZE
from prune.search.space import SearchSpace, make_space
from prune.width_options import width_options
from reid_edge.core.io import write_bytes, write_torch
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD, load_image
from reid_edge.data.schema import Sample, label_tensors
from reid_edge.data.transforms import normalise
from reid_edge.metrics import Distance
from reid_edge.models.checkpoint import load_checkpoint, read_torch_file

SETTINGS = "task.json"
MODEL = "checkpoint.pt"
IMAGES = "images.pt"


class TaskSettings(Settings):
    """What a score depends on, besides the model and the images.

    Attributes:
        variables: patterns of layer names, by variable of the search.
        macs: limit for one image.
        multiple: of the widths.
        untouched: patterns of layers that are left alone.
        groups: layers whose channels go together.
        iterations: cuts in which a candidate is taken to its widths.
        criterion: what ranks channels.
        distance: between embeddings.
        seed: of the random criterion and of what pruning is checked with.
        threads: of a trial; none: as many as torch takes.
    """

    variables: dict[str, tuple[str, ...]]
    macs: int
    multiple: int
    untouched: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    iterations: int
    criterion: CriterionName
    distance: Distance
    seed: int
    threads: int | None


@dataclass(frozen=True)
class Labelled:
    """Images to rank.

    Attributes:
        images: normalised (N, 3, H, W).
        persons: identities (N,).
        cameras: (N,).
    """

    images: Tensor
    persons: Tensor
    cameras: Tensor


@dataclass(frozen=True)
class Task:
    """A task that was read.

    Attributes:
        settings: see there.
        architecture: of the model, as the registry calls it.
        model: at full width, in evaluation mode.
        reconstruction: normalised images (N, 3, H, W) to solve weights on.
        query: held-back images to search with.
        gallery: held-back images to search in.
    """

    settings: TaskSettings
    architecture: str
    model: nn.Module
    reconstruction: Tensor
    query: Labelled
    gallery: Labelled

    def space(self) -> SearchSpace:
        """Return the search space."""
        return search_space(self.settings, self.model, self.reconstruction[:1])


def search_space(settings: TaskSettings, model: nn.Module, example: Tensor) -> SearchSpace:
    """Return the space of a model's widths.

    Args:
        settings: say what moves, and below which limit.
        model: at full width.
        example: (1, 3, H, W), on which operations are counted.

    Raises:
        PruneError: a pattern meets no layer that may be cut, or layers that share their channels
            would belong to two variables.
    """
    free = width_options(
        model,
        torch.zeros(2, 3, *TRACE_SIZE),
        cost_example=example,
        untouched=settings.untouched,
        multiple=settings.multiple,
        groups=settings.groups,
        section="search",
    )
    return make_space(free, settings.variables, settings.macs)


def write_task(
    folder: Path,
    settings: TaskSettings,
    checkpoint: Path,
    images: dict[str, Sequence[Sample]],
    input_size: tuple[int, int],
) -> None:
    """Write a task, with the code that carries it out.

    Args:
        folder: is made.
        settings: see there.
        checkpoint: of the full-width model.
        images: under ``reconstruction``, ``query`` and ``gallery``.
        input_size: (height, width).
    """
    for package in (pipeline, prune, quantize, reid_edge):
        source = Path(str(package.__file__)).parent
        shutil.copytree(
            source,
            folder / source.name,
            ignore=shutil.ignore_patterns("__pycache__"),
            dirs_exist_ok=True,
        )
    shutil.copyfile(checkpoint, folder / MODEL)
    packed: dict[str, dict[str, Tensor]] = {}
    for name, samples in images.items():
        persons, cameras = label_tensors(samples)
        loaded = [torch.from_numpy(load_image(one.path, *input_size)) for one in samples]
        packed[name] = {"images": torch.stack(loaded), "persons": persons, "cameras": cameras}
    write_torch(folder / IMAGES, packed)
    write_settings(folder, settings)


def write_settings(folder: Path, settings: TaskSettings) -> None:
    """Write the settings of a task, in place of those that are there."""
    write_bytes(folder / SETTINGS, settings.model_dump_json(indent=2).encode())


def read_settings(folder: Path) -> TaskSettings:
    """Read the settings of a task."""
    return TaskSettings.model_validate_json((folder / SETTINGS).read_bytes())


def read_task(folder: Path) -> Task:
    """Read a task."""
    settings = read_settings(folder)
    content = read_torch_file(folder / IMAGES)
    sets = {
        name: Labelled(
            normalise(packed["images"], IMAGENET_MEAN, IMAGENET_STD),
            packed["persons"],
            packed["cameras"],
        )
        for name, packed in content.items()
    }
    model, info = load_checkpoint(folder / MODEL)
    return Task(
        settings=settings,
        architecture=info.architecture,
        model=model,
        reconstruction=sets["reconstruction"].images,
        query=sets["query"],
        gallery=sets["gallery"],
    )

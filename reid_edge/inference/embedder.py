"""A model ready for use: what it makes of an image file, and what tells it from another model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid_edge.core.errors import ModelError, ReidError
from reid_edge.core.progress import Progress
from reid_edge.data.images import IMAGENET_MEAN, IMAGENET_STD, load_image
from reid_edge.data.transforms import normalise
from reid_edge.inference.features import Embed, embed_batches

COLOUR_ORDERS = ("RGB", "BGR")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingSpace:
    """What two embeddings must have in common to be compared.

    Attributes:
        file_hash: SHA-256 of the model's file in hexadecimal, or, where weights lie in files
            beside it, of the hashes of all.
        input_size: (height, width) in pixels that images are brought to.
        flip_averaging: whether an embedding is the mean of the image's and its mirror image's.
        architecture: that the weights were loaded into, or empty where an exported file does not
            say.
        mean: that is taken from each colour in [0, 1].
        std: that each colour is divided by.
        colour_order: "RGB" or "BGR".
    """

    file_hash: str
    input_size: tuple[int, int]
    flip_averaging: bool = False
    architecture: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    colour_order: str = "RGB"

    def to_dict(self) -> dict[str, object]:
        """Give it as values that JSON has."""
        values = asdict(self).items()
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is not what it should be.
            ValueError: the same.
        """
        height, width = (int(side) for side in values["input_size"])
        mean, std = (_colours(values[key]) for key in ("mean", "std"))
        return cls(
            str(values["file_hash"]),
            (height, width),
            bool(values["flip_averaging"]),
            str(values["architecture"]),
            mean,
            std,
            str(values["colour_order"]),
        )

    def difference(self, stored: "EmbeddingSpace") -> str | None:
        """Say in a few words how a stored space differs from this one; None if it does not."""
        if stored.file_hash != self.file_hash:
            return "another model file"
        if stored.architecture != self.architecture:
            names = [space.architecture or "unnamed" for space in (stored, self)]
            return "another architecture ({}, not {})".format(*names)
        if stored.colour_order != self.colour_order:
            return f"colours as {stored.colour_order}, not {self.colour_order}"
        if (stored.mean, stored.std) != (self.mean, self.std):
            return "other mean or std of the colours"
        if stored.input_size != self.input_size:
            sizes = ["{}x{}".format(*size) for size in (stored.input_size, self.input_size)]
            return "images of {}, not of {}".format(*sizes)
        if stored.flip_averaging != self.flip_averaging:
            return "flip averaging " + ("off" if self.flip_averaging else "on")
        return None


def _colours(values: Sequence[Any]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


@dataclass(frozen=True)
class Embedder:
    """A model with what it expects of an image.

    Attributes:
        embed: from normalised images (N, 3, H, W) to embeddings (N, D), not of unit length.
        space: input size, colours and all else that its embeddings must have in common with others.
        description: architecture and kind of file, in a few words.
        path: the model's file.
    """

    embed: Embed
    space: EmbeddingSpace
    description: str
    path: Path


class PreparedImages(Dataset[Tensor]):
    """Image files as a model expects them, float32 (3, H, W), in order."""

    def __init__(self, paths: Sequence[Path], embedder: Embedder) -> None:
        self._paths = list(paths)
        self._size = embedder.space.input_size
        self._mean, self._std = embedder.space.mean, embedder.space.std
        self._reverse = embedder.space.colour_order == "BGR"

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Tensor:
        image = torch.from_numpy(load_image(self._paths[index], *self._size))
        ordered = image.flip(0) if self._reverse else image
        return normalise(ordered, self._mean, self._std)


def embed_files(
    embedder: Embedder,
    paths: Sequence[Path],
    *,
    batch_size: int = 32,
    workers: int = 0,
    progress: Progress | None = None,
) -> Tensor:
    """Give the embeddings (N, D) of image files, in order, float32 on the CPU.

    Args:
        embedder: the model.
        paths: at least one image file.
        batch_size: images that go through the model together.
        workers: processes that decode images; 0 decodes them in this one.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
        ModelError: the model fails on a batch, or gives anything but finite numbers (N, D).
    """
    if batch_size < 1 or workers < 0:
        raise ModelError("a batch is of 1 image or more, and workers are 0 or more")
    loader = DataLoader(PreparedImages(paths, embedder), batch_size=batch_size, num_workers=workers)
    done = 0

    def embed(batch: Tensor) -> Tensor:
        nonlocal done
        embeddings = _embed_checked(embedder, batch)
        done += len(batch)
        if progress is not None:
            progress(done, len(paths))
        return embeddings

    return embed_batches(embed, loader)


def average_over_flip(embed: Embed) -> Embed:
    """Average a model's embeddings over each image and its mirror image."""

    def average(images: Tensor) -> Tensor:
        plain, mirrored = embed(images), embed(images.flip(-1))
        try:
            return (plain + mirrored) / 2
        except TypeError:
            # A tuple or a dictionary: `embed_files` says that these are no embeddings.
            return plain

    return average


def _embed_checked(embedder: Embedder, batch: Tensor) -> Tensor:
    height, width = embedder.space.input_size
    try:
        embeddings = embedder.embed(batch)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{embedder.path}: {len(batch)} images of {height}x{width} at a time do not fit into "
            "the GPU's memory; give a smaller --batch-size"
        ) from error
    except ReidError:
        raise
    except (RuntimeError, ValueError) as error:  # the second is instance normalisation's
        # What TorchScript and ONNX Runtime say takes a page and names none of the user's files.
        _log.debug("the model fails", exc_info=error)
        raise ModelError(
            f"{embedder.path}: the model fails on images of {height}x{width}; "
            "it may be made for another input size"
        ) from error
    shape = tuple(getattr(embeddings, "shape", ()))
    if len(shape) != 2 or shape[0] != len(batch) or shape[1] == 0:
        raise ModelError(
            f"{embedder.path}: gives {shape or type(embeddings).__name__} for {len(batch)} "
            "images; expected one embedding for each"
        )
    return embeddings

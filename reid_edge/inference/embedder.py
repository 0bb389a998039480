"""A model file as an embedder: from image files to embeddings, with NumPy arrays throughout.

PyTorch is needed for checkpoints and TorchScript files only; the backend of such a file imports it.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.backends import load_model_file
from reid_edge.core.devices import Device
from reid_edge.core.errors import CheckpointError, ModelError, ReidError
from reid_edge.core.io import hash_files
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.model_file import (
    FLOAT_INPUT,
    IMAGENET_MEAN,
    IMAGENET_STD,
    INPUT_FORMS,
    Backend,
    Colours,
    Embed,
    Embeddings,
    Images,
    LoadOptions,
)
from reid_edge.core.progress import Progress
from reid_edge.data.decoding import load_image, normalise_array
from reid_edge.data.paths import expand_home

COLOUR_ORDERS = ("RGB", "BGR")
DEFAULT_INPUT_SIZE = (256, 128)
LARGEST_SIDE = 4096
# Batches that threads decode ahead of the model.
_BATCHES_AHEAD = 2
# Embeddings of two images of one person are 1e-3 and more from a cosine of 1.
SAME_DIRECTION = 1e-6

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
        weights_key: which weights were taken of a checkpoint with several, or empty.
        input_form: see `reid_edge.core.model_file.ModelMetadata`.
    """

    file_hash: str
    input_size: tuple[int, int]
    flip_averaging: bool = False
    architecture: str = ""
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD
    colour_order: str = "RGB"
    weights_key: str = ""
    input_form: str = FLOAT_INPUT

    def to_dict(self) -> dict[str, object]:
        """Return it as values that JSON has; `from_dict` reads them."""
        values = asdict(self)
        if self.input_form == FLOAT_INPUT:
            del values["input_form"]
        return {key: list(one) if isinstance(one, tuple) else one for key, one in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` returned.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is of another type.
            ValueError: a value cannot be read, or a list has another length.
        """
        height, width = (int(side) for side in values["input_size"])
        red, green, blue = (float(value) for value in values["mean"])
        red_std, green_std, blue_std = (float(value) for value in values["std"])
        return cls(
            str(values["file_hash"]),
            (height, width),
            bool(values["flip_averaging"]),
            str(values["architecture"]),
            (red, green, blue),
            (red_std, green_std, blue_std),
            str(values["colour_order"]),
            str(values.get("weights_key", "")),
            str(values.get("input_form", FLOAT_INPUT)),
        )

    def difference(self, stored: EmbeddingSpace) -> str | None:
        """Return how a stored space differs from this one, in words; None if it does not."""
        if stored.file_hash != self.file_hash:
            return "another model file"
        if stored.architecture != self.architecture:
            names = [space.architecture or "unnamed" for space in (stored, self)]
            return "another architecture ({}, not {})".format(*names)
        if stored.weights_key != self.weights_key:
            return "other weights of the file"
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


@dataclass(frozen=True)
class ImageEmbedder:
    """A model with what it expects of an image.

    Attributes:
        embed: from normalised images (N, 3, H, W) to embeddings (N, D), both float32; embeddings
            are not of unit length.
        space: input size, colours and all else that its embeddings must have in common with others.
        description: architecture and kind of file, in words.
        path: the model's file.
    """

    embed: Embed
    space: EmbeddingSpace
    description: str
    path: Path


def load_embedder(
    path: Path | str,
    *,
    architecture: str | None = None,
    input_size: tuple[int, int] | None = None,
    flip_averaging: bool = False,
    device: Device = "cpu",
    backend: Backend | None = None,
    mean: Colours | None = None,
    std: Colours | None = None,
    weights_key: str | None = None,
    threads: int | None = None,
) -> ImageEmbedder:
    """Load a model file for inference; nothing in it is unpickled.

    Args:
        path: a checkpoint of this program or of torchreid, FastReID or BoxMOT, a TorchScript file,
            an ONNX file, the ``.xml`` of an OpenVINO file, or an ExecuTorch file.
        architecture: of a checkpoint that does not say; by default read off the file's name. Where
            the file says, it must be the same.
        input_size: (height, width) in pixels; by default the file's own, or 256 x 128.
        flip_averaging: average each embedding over the image and its mirror image.
        device: where a checkpoint runs; exported files run on the CPU, with "auto" too.
        backend: that runs the file, registered or not; by default the one that recognises it.
        mean: of each colour in [0, 1]; by default the file's own, or ImageNet's.
        std: of each colour in [0, 1]; likewise.
        weights_key: which weights to take of another program's checkpoint that holds several, such
            as "state_dict_ema"; see `reid_edge.models.foreign_state.find_state`.
        threads: that the runtime of an exported file uses for a call; by default as many as
            PyTorch uses where it is loaded, or all cores. A checkpoint runs with PyTorch's own.

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        DataError: its path begins with the home of an unknown user.
        ModelError: the architecture is not known, a package is missing, or the model cannot be run
            here.
    """
    path = expand_home(Path(path))
    if threads is not None and threads < 1:
        raise ModelError(f"threads: {threads}; expected 1 or more")
    options = LoadOptions(architecture, device, threads=threads, weights_key=weights_key)
    loaded = load_model_file(path, options, backend)
    metadata = loaded.metadata
    metadata = replace(metadata, mean=mean or metadata.mean, std=std or metadata.std)
    if metadata.colour_order not in COLOUR_ORDERS:
        raise CheckpointError(
            f"{path}: colour order {metadata.colour_order!r}; expected {' or '.join(COLOUR_ORDERS)}"
        )
    if not all(std > 0 for std in metadata.std):
        raise CheckpointError(f"{path}: a std of {metadata.std}; expected above zero")
    if metadata.input_form not in INPUT_FORMS:
        raise CheckpointError(
            f"{path}: input form {metadata.input_form!r}; expected {', '.join(INPUT_FORMS)}"
        )
    size = input_size or metadata.input_size or DEFAULT_INPUT_SIZE
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ModelError(
            f"an input of {size[0]}x{size[1]}: sides are of 1 to {LARGEST_SIDE} pixels"
        )
    return ImageEmbedder(
        embed=_average_over_flip(loaded.embed) if flip_averaging else loaded.embed,
        space=EmbeddingSpace(
            file_hash=hash_files((path, *loaded.weight_files)),
            input_size=size,
            flip_averaging=flip_averaging,
            architecture=metadata.architecture,
            mean=metadata.mean,
            std=metadata.std,
            colour_order=metadata.colour_order,
            weights_key=weights_key or "",
            input_form=metadata.input_form,
        ),
        description=f"{metadata.architecture or 'unnamed model'}, {loaded.description}",
        path=path,
    )


def _average_over_flip(embed: Embed) -> Embed:
    """Average a model's embeddings over each image and its mirror image."""

    def average(images: Images) -> Embeddings:
        plain, mirrored = embed(images), embed(np.ascontiguousarray(images[..., ::-1]))
        output: object = plain
        # A tuple or a dictionary is returned as it is: `embed_files` refuses these.
        return (plain + mirrored) * np.float32(0.5) if isinstance(output, np.ndarray) else plain

    return average


@freed_memory_kept()
def embed_files(
    embedder: ImageEmbedder,
    paths: Sequence[Path | str],
    *,
    batch_size: int = 32,
    workers: int = 0,
    progress: Progress | None = None,
) -> Embeddings:
    """Return the embeddings (N, D) of image files, in order, float32.

    Args:
        embedder: the model.
        paths: at least one image file.
        batch_size: images that go through the model together.
        workers: threads that decode images ahead of the model; 0 decodes them in this thread.
        progress: called with (images done, images in all).

    Raises:
        DataError: an image cannot be read.
        ModelError: the model fails on a batch, its output is not an embedding for each image that
            is finite and longer than zero, or it is the same for all images (`check_distinct`).
    """
    if batch_size < 1 or workers < 0:
        raise ModelError("a batch is of 1 image or more, and workers are 0 or more")
    files = [Path(path) for path in paths]
    parts, done = [], 0
    first: Images | None = None
    for batch in load_batches(embedder.space, files, batch_size, workers):
        first = batch[:1] if first is None else first
        parts.append(embed_batch(embedder, batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(files))
    embeddings = check_embeddings(np.concatenate(parts), embedder.path)
    if first is not None and len(embeddings) > 1:
        check_distinct(embedder, embeddings, first)
    return embeddings


def load_batches(
    space: EmbeddingSpace, paths: Sequence[Path], batch_size: int, workers: int = 0
) -> Generator[Images, None, None]:
    """Yield batches of prepared images (N, 3, H, W), in order.

    Args:
        space: see `prepare_image`.
        paths: image files.
        batch_size: images of a batch.
        workers: threads that decode ahead; 0 decodes in this thread.

    Raises:
        DataError: an image cannot be read.
    """
    parts = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    if workers == 0:
        for part in parts:
            yield np.stack([prepare_image(path, space) for path in part])
        return
    # Pillow and NumPy release the interpreter's lock while they decode, resize and normalise.
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[list[Future[Images]]] = deque()
        try:
            for part in parts:
                ahead.append([pool.submit(prepare_image, path, space) for path in part])
                if len(ahead) > _BATCHES_AHEAD:
                    yield np.stack([image.result() for image in ahead.popleft()])
            while ahead:
                yield np.stack([image.result() for image in ahead.popleft()])
        finally:
            pool.shutdown(cancel_futures=True)


def prepare_image(path: Path, space: EmbeddingSpace) -> Images:
    """Decode, resize and normalise an image as a model expects it.

    Args:
        path: the image file.
        space: input size, colour order, mean and std of the model.

    Returns:
        float32 (3, H, W).

    Raises:
        DataError: the image cannot be read.
    """
    return prepare_pixels(load_image(path, *space.input_size), space)


def prepare_pixels(image: NDArray[np.uint8], space: EmbeddingSpace) -> Images:
    """Bring a resized image, uint8 RGB (3, H, W), to what a model takes, float32 (3, H, W).

    A model that normalises images itself takes the pixels, uint8.
    """
    ordered = image[::-1] if space.colour_order == "BGR" else image
    if space.input_form != FLOAT_INPUT:
        pixels: Images = np.ascontiguousarray(ordered)
        return pixels
    # Contiguous planes are normalised five times as fast as interleaved colours.
    return normalise_array(np.ascontiguousarray(ordered), space.mean, space.std)


def check_finite(embeddings: Embeddings, path: Path | None = None) -> Embeddings:
    """Return embeddings (N, D) as they are.

    Args:
        embeddings: what a model gave.
        path: of the model's file, for the message.

    Raises:
        ModelError: one is not finite.
    """
    finite = np.isfinite(embeddings).all(1)
    if not finite.all():
        where = "" if path is None else f"{path}: "
        raise ModelError(
            f"{where}{int((~finite).sum())} of {len(embeddings)} embeddings are not finite: the "
            "training diverged or the checkpoint is damaged; try a lower learning rate"
        )
    return embeddings


def check_embeddings(embeddings: Embeddings, path: Path | None = None) -> Embeddings:
    """Return embeddings (N, D) as they are.

    Args:
        embeddings: what a model gave.
        path: of the model's file, for the message.

    Raises:
        ModelError: one is not finite, or is of length zero, so that it has no cosine similarity.
    """
    zeros = ~check_finite(embeddings, path).any(1)
    if zeros.any():
        where = "" if path is None else f"{path}: "
        raise ModelError(
            f"{where}{int(zeros.sum())} of {len(embeddings)} embeddings are zero in all "
            "dimensions, which are similar to nothing: the training diverged or the model's file "
            "is damaged"
        )
    return embeddings


def point_one_way(embeddings: Embeddings) -> bool:
    """Return whether all embeddings (N, D) have one direction, up to a cosine of 1 - 1e-6."""
    unit = unit_vectors(embeddings).astype(np.float64)
    return bool((unit @ unit[0] > 1 - SAME_DIRECTION).all())


def check_distinct(embedder: ImageEmbedder, embeddings: Embeddings, image: Images) -> None:
    """Check that a model whose embeddings are all the same tells images apart at all.

    The images may be all alike. So the decision is made on the negative of one, and on that image
    upside down: no model that has learned anything gives the same embedding for these. The model
    runs once more, and only if all embeddings are the same.

    Args:
        embedder: the model.
        embeddings: what it gave, shape (N, D).
        image: the first of the images that it gave them for, prepared, shape (1, 3, H, W).

    Raises:
        ModelError: it gives the same embedding for every image.
    """
    if not point_one_way(embeddings):
        return
    others = np.concatenate((-image, np.ascontiguousarray(image[..., ::-1, :])))
    given = embed_batch(embedder, others)
    if not given.any(1).all() or point_one_way(np.concatenate((embeddings[:1], given))):
        raise ModelError(
            f"{embedder.path}: gives the same embedding for every image, so it can tell no persons "
            "apart: the training collapsed or the file is damaged; take another checkpoint"
        )


def unit_vectors(embeddings: Embeddings) -> Embeddings:
    """Scale embeddings (N, D) to length one; a row of zeros stays zero.

    Lengths are computed in float64, so that the result is the same on every processor.
    """
    wide = embeddings.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def embed_batch(embedder: ImageEmbedder, batch: Images) -> Embeddings:
    """Run a model on a batch of prepared images (N, 3, H, W), N above 0.

    Returns:
        float32 (N, D); they may be of any length.

    Raises:
        ModelError: the model fails or gives no embedding for each image; its file is named.
    """
    height, width = embedder.space.input_size
    try:
        embeddings = embedder.embed(batch)
    except ReidError:
        raise
    except (RuntimeError, ValueError) as error:  # the second is instance normalisation's
        # Only a backend of PyTorch raises PyTorch's errors.
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(error, torch.OutOfMemoryError):
            raise ModelError(
                f"{embedder.path}: {len(batch)} images of {height}x{width} at a time do not fit "
                "into the GPU's memory; give a smaller --batch-size"
            ) from error
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

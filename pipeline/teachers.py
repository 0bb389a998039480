"""The teacher of a training: the full-width model, another model file, or a table of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.model_hash import NAMES_SUFFIX, TABLE_SUFFIX
from reid_edge.core.devices import Device
from reid_edge.core.errors import ArchitectureError, CheckpointError, DataError
from reid_edge.data.held_out import MOST_HELD_OUT
from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.embedder import ImageEmbedder, embed_files, load_embedder
from reid_edge.inference.label_free_evaluation import check_varied
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.training.distillation import Teacher
from reid_edge.training.file_teacher import FileTeacher
from reid_edge.training.settings import DistillationSettings

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.context import StageContext
    from reid_edge.core.progress import Progress

# Images that a model is tried on before a run.
TRIED_IMAGES = 8


def load_teacher(
    context: StageContext[Any],
    settings: DistillationSettings,
    hints: Mapping[str, Tensor | None] | None = None,
) -> Teacher | None:
    """Load what a stage's training learns from.

    Args:
        context: of the stage.
        settings: weights of the terms.
        hints: kept channels, see :class:`reid_edge.training.distillation.Teacher`; only the
            full-width model has them.

    Returns:
        None if there is no full-width model, and no other teacher is named.

    Raises:
        ReidError: the file cannot be read, or a table lacks an image.
    """
    path = context.config.teacher.file
    if context.config.teacher.cached and (path or context.teacher) is not None:
        table = context.teacher_embeddings.of(context, context.data.train)
        return _from_table(table, settings)
    if path is None:
        if context.teacher is None:
            return None
        model, info = load_checkpoint(context.teacher)
        return Teacher(model, settings, hints or {}, input_size=info.input_size)
    if path.suffix == TABLE_SUFFIX:
        return _from_table(read_table(path, context.data.root, context.data.train), settings)
    embedder = load_teacher_file(context.config)
    model = FileTeacher(embedder)
    return Teacher(
        model,
        settings.model_copy(update={"hints": 0.0}),
        input_size=embedder.space.input_size,
        dimensions=model.dimensions,
    )


def _from_table(table: Tensor, settings: DistillationSettings) -> Teacher:
    """Return a teacher that is known by its embeddings alone: it has no layers and no classes."""
    embeddings_alone = settings.model_copy(update={"hints": 0.0, "logits": 0.0})
    return Teacher(nn.Identity(), embeddings_alone, table=table, dimensions=table.shape[1])


def load_teacher_file(config: Config, device: Device = "cpu") -> ImageEmbedder:
    """Load the model file that ``teacher.file`` names.

    Raises:
        ReidError: it cannot be read.
    """
    file, architecture = config.teacher.file, config.teacher.architecture
    assert file is not None, "the caller has looked"
    try:
        return load_embedder(file, architecture=architecture, device=device)
    except ArchitectureError as error:
        raise ArchitectureError(f"{error}; in a run this is teacher.architecture") from error


def check_teacher_file(config: Config, data: ReidData | None) -> None:
    """Try the file that ``teacher.file`` names, before a stage that learns from it is waited for.

    Args:
        config: all settings; ``teacher.file`` names a file.
        data: whose images a table has to name, and a model is tried on; None: not there yet.

    Raises:
        ReidError: the file cannot be read, a model gives no embeddings, a table lacks an image or
            has nearly the same embedding for all.
    """
    file = config.teacher.file
    assert file is not None, "the caller has looked"
    if file.suffix != TABLE_SUFFIX:
        embedder = load_teacher_file(config)
        if data is not None:
            tried = [image.path for image in data.train[:: -(-len(data.train) // TRIED_IMAGES)]]
            embed_files(embedder, tried, batch_size=TRIED_IMAGES)
    elif data is not None:
        # Without identities, models are compared with the teacher on the images set apart.
        compared = data.query if data.labels != "persons" else ()
        table = read_table(file, data.root, [*data.train, *compared])
        some = table[:: -(-len(table) // MOST_HELD_OUT)]
        check_varied(some, file, f"all {len(some)} images that were looked at")


def read_table(path: Path, root: Path, images: Sequence[Sample]) -> Tensor:
    """Read the embeddings (N, D) of images from a table, in the order of the images.

    Args:
        path: array of numbers (rows, D), ``.npy``; beside it a ``.txt`` with a name on each line,
            the path of an image below the data set's folder.
        root: of the data set.
        images: whose embeddings are wanted.

    Raises:
        CheckpointError: the table or its names cannot be read or do not belong together, an
            image has no embedding or two, or one that is not finite or is zero.
    """
    names_path = path.with_suffix(NAMES_SUFFIX)
    try:
        # Nothing is unpickled.
        table = np.load(path, allow_pickle=False)
        names = names_path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: cannot be read as a table of embeddings with names in {names_path.name} "
            f"({reason})"
        ) from error
    shape: tuple[int, ...] = getattr(table, "shape", ())
    if len(shape) != 2 or 0 in shape or table.dtype.kind not in "fiu" or len(names) != shape[0]:
        raise CheckpointError(
            f"{path}: has shape {shape}, and {names_path.name} {len(names)} lines; expected "
            "numbers (images, dimensions) and a line for each image"
        )
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        path_below = name.strip().replace("\\", "/")
        if rows.setdefault(path_below, row) != row:
            raise CheckpointError(f"{names_path}: names {path_below} twice; expected it once")
    places = []
    for image in images:
        name = (
            image.path.relative_to(root).as_posix()
            if image.path.is_relative_to(root)
            else str(image.path)
        )
        if name not in rows:
            raise CheckpointError(
                f"{names_path}: does not name {name}; expected the paths of all images below "
                f"{root}, training images and those set apart"
            )
        places.append(rows[name])
    with np.errstate(over="ignore"):  # larger numbers than float32 has are refused below
        chosen = torch.from_numpy(np.asarray(table[places], dtype=np.float32))
    if not torch.isfinite(chosen).all():
        raise CheckpointError(f"{path}: has embeddings that are not finite")
    zeros = ~chosen.any(1)
    if zeros.any():
        row = places[int(zeros.int().argmax())]
        raise CheckpointError(
            f"{path}: the embedding of {names[row].strip()} is zero in all dimensions, which is "
            "similar to nothing"
        )
    return chosen


def embed_by_file(
    context: StageContext[Any], images: Sequence[Sample], progress: Progress
) -> Tensor:
    """Return the embeddings (N, D) of images by the model file that ``teacher.file`` names.

    Raises:
        ReidError: it cannot be read, or an image cannot.
    """
    embedder = load_teacher_file(context.config, context.config.device)
    if not images:
        raise DataError(f"{context.data.root}: no images to compare with the teacher")
    settings = context.config.data
    return torch.from_numpy(
        embed_files(
            embedder,
            [image.path for image in images],
            batch_size=settings.evaluation_batch,
            workers=settings.workers,
            progress=progress,
        )
    )

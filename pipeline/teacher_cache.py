"""The teacher's embeddings in the run's folder, so that the next stage finds them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.run_dir import TEACHER_CACHE
from reid_edge.core.checksums import are_intact, forget_files, write_checked
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.context import StageContext
    from reid_edge.data.schema import Sample

# Letters of a hash in a file's name.
LETTERS = 24


def cache_file(context: StageContext[Any], teacher: Path, images: Sequence[Sample]) -> Path:
    """Return where the embeddings of images by a teacher are kept, whether they are there or not.

    The name depends on all that the embeddings do: the teacher's file, the images' files, the
    device, the batch, and the version of PyTorch.

    Raises:
        PipelineError: an image is gone.
    """
    import torch

    of_images = hashlib.sha256()
    for image in images:
        try:
            found = image.path.stat()
        except OSError as error:
            raise PipelineError(f"{image.path}: cannot be read ({error.strerror})") from error
        of_images.update(f"{image.path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(
            "utf-8", "surrogateescape"
        ))  # fmt: skip
    config = context.config
    made_by = json.dumps(
        [
            of_images.hexdigest(), config.teacher.architecture, config.data.evaluation_batch,
            context.device, torch.__version__,
        ]
    )  # fmt: skip
    key = hashlib.sha256(made_by.encode()).hexdigest()
    name = f"{hash_file(teacher)[:LETTERS]}-{key[:LETTERS]}.npy"
    return context.folder.parent / TEACHER_CACHE / name


def read_cached(path: Path) -> Tensor | None:
    """Return embeddings (N, D); None if they are not there or damaged."""
    import numpy as np
    import torch

    if not path.is_file() or not are_intact(path):
        return None
    return torch.from_numpy(np.load(path, allow_pickle=False))


def write_cached(path: Path, embeddings: Tensor) -> None:
    """Keep embeddings (N, D); those of another teacher are removed."""
    import numpy as np

    others = [one for one in path.parent.glob("*.npy") if one.name[:LETTERS] != path.name[:LETTERS]]
    forget_files(others)
    content = io.BytesIO()
    np.save(content, embeddings.numpy(), allow_pickle=False)
    write_checked(path, content.getbuffer())

"""The teacher's embeddings in the run's folder, so that the next stage finds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.model_hash import hash_teacher
from pipeline.run_dir import TEACHER_CACHE
from reid_edge.core.checksums import are_intact, forget_files, record_checksums
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import written_whole

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.context import StageContext
    from reid_edge.data.schema import Sample

# What a teacher may run on.
RUNTIMES = ("torch", "onnxruntime", "openvino", "ncnn", "MNN", "ai-edge-litert", "executorch")
# Letters of a hash in a file's name.
LETTERS = 24
# Images that are learned from and images set apart, by the present teacher and one before: more
# are left over from other settings.
MOST_FILES = 4


def cache_file(context: StageContext[Any], teacher: Path, images: Sequence[Sample]) -> Path:
    """Return where the embeddings of images by a teacher are kept, whether they are there or not.

    The name depends on the teacher's files, the names, sizes and times of the images' files, the
    device, the batch, and the versions of PyTorch and of the teacher's runtime.

    Raises:
        ReidError: an image is gone, or a file of the teacher.
    """
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
            context.device, _versions(),
        ]
    )  # fmt: skip
    key = hashlib.sha256(made_by.encode()).hexdigest()
    name = f"{hash_teacher(teacher)[:LETTERS]}-{key[:LETTERS]}.npy"
    return context.folder.parent / TEACHER_CACHE / name


def _versions() -> list[str]:
    """Return the versions of the runtimes that are installed."""
    found = []
    for package in RUNTIMES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def read_cached(path: Path) -> Tensor | None:
    """Return embeddings (N, D); None if they are not there or damaged."""
    import numpy as np
    import torch

    if not path.is_file() or not are_intact(path):
        return None
    return torch.from_numpy(np.load(path, allow_pickle=False))


def write_cached(path: Path, embeddings: Tensor) -> None:
    """Keep embeddings (N, D), and of the others those that were written last.

    Raises:
        PipelineError: the file cannot be written.
    """
    import numpy as np

    path.parent.mkdir(exist_ok=True)
    others = sorted(path.parent.glob("*.npy"), key=lambda one: one.stat().st_mtime_ns)
    forget_files(others[: -(MOST_FILES - 1)])
    with written_whole(path, PipelineError) as file:
        np.save(file, embeddings.numpy(), allow_pickle=False)
    record_checksums(path)

"""The hash of a teacher's file, with those of the files that belong to it."""

from pathlib import Path

from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_files

TABLE_SUFFIX, NAMES_SUFFIX = ".npy", ".txt"


def hash_teacher(path: Path) -> str:
    """Return the SHA-256 of a model's file, or of a table of embeddings, and of what belongs to it.

    Weights may be in a file of their own, beside an OpenVINO or an ONNX file.

    Raises:
        PipelineError: a file is missing or cannot be read.
        CheckpointError: the weights of an ONNX file are missing, or it is damaged.
    """
    if path.suffix == TABLE_SUFFIX:
        files = [path, path.with_suffix(NAMES_SUFFIX)]
    else:
        files = [path, *(part for part in model_file_parts(path)[1:] if part.is_file())]
    for file in files:
        if not file.is_file():
            raise PipelineError(f"{file}: no such file; teacher.file names it")
    if path.suffix == ".onnx":
        from reid_edge.inference.backends.onnx_runtime import weight_files

        files += weight_files(path)
    try:
        return hash_files(files)
    except OSError as error:
        raise PipelineError(f"{error.filename}: cannot be read ({error.strerror})") from error

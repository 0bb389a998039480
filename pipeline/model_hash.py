"""Hashes of models and teachers, with the files that belong to them."""

from pathlib import Path

from reid_edge.core.backends import model_file_parts
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_files

TABLE_SUFFIX, NAMES_SUFFIX = ".npy", ".txt"


def hash_model(path: Path) -> str:
    """Return the SHA-256 of a model's file and of the files that hold its weights, if any do.

    Raises:
        CheckpointError: the weights of an ONNX file are missing, or it is damaged.
        OSError: a file cannot be read.
    """
    files = [path, *(part for part in model_file_parts(path)[1:] if part.is_file())]
    if path.suffix == ".onnx":
        from reid_edge.inference.backends.onnx_runtime import weight_files

        files += weight_files(path)
    return hash_files(files)


def hash_teacher(path: Path) -> str:
    """Return the SHA-256 of a model, or of a table of embeddings with its names.

    Raises:
        PipelineError: a file is missing or cannot be read.
        CheckpointError: see `hash_model`.
    """
    is_table = path.suffix == TABLE_SUFFIX
    files = [path, path.with_suffix(NAMES_SUFFIX)] if is_table else [path]
    for file in files:
        if not file.is_file():
            problem = "is no file" if file.exists() else "no such file"
            raise PipelineError(f"{file}: {problem}; the teacher is read from it")
    try:
        return hash_files(files) if is_table else hash_model(path)
    except OSError as error:
        raise PipelineError(f"{error.filename}: cannot be read ({error.strerror})") from error

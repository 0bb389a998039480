"""Load model files of all kinds: their content determines the backend."""

from pathlib import Path

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.file_kinds import kind_of_file
from reid_edge.core.model_file import Backend, LoadedModel, LoadOptions
from reid_edge.core.packages import how_to_install, missing_packages
from reid_edge.core.registry import Registry

BACKENDS: Registry[Backend] = Registry(
    "backend",
    "reid_edge.backends",
    {
        # In front of the checkpoints, which are archives too.
        "bundle": "reid_edge.inference.backends.bundled_onnx:BACKEND",
        "torchscript": "reid_edge.inference.backends.torchscript_runtime:BACKEND",
        "checkpoint": "reid_edge.inference.backends.eager:BACKEND",
        "executorch": "reid_edge.inference.backends.executorch_runtime:BACKEND",
        "onnx": "reid_edge.inference.backends.onnx_runtime:BACKEND",
        "openvino": "reid_edge.inference.backends.openvino_runtime:BACKEND",
        "c": "reid_edge.inference.backends.c_library:BACKEND",
        "ncnn": "reid_edge.inference.backends.ncnn_runtime:BACKEND",
        "litert": "reid_edge.inference.backends.litert_runtime:BACKEND",
        "mnn": "reid_edge.inference.backends.mnn_runtime:BACKEND",
    },
    error=ModelError,
)
DEFAULT_OPTIONS = LoadOptions()
# Bytes at a file's beginning that a backend is shown.
_HEAD = 256


def load_model_file(
    path: Path, options: LoadOptions = DEFAULT_OPTIONS, backend: Backend | None = None
) -> LoadedModel:
    """Load a model file; nothing in it is unpickled.

    Args:
        path: of the file.
        options: architecture, device, engine and threads.
        backend: that runs it, registered or not; by default the one that recognises it.

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        ModelError: the model cannot be run here, or is not of the architecture asked for.
    """
    backend = backend or recognise(path)
    missing = missing_packages(backend.packages)
    if missing:
        raise ModelError(
            f"{path}: needs the package {' and '.join(missing)}: {how_to_install(backend.extra)}"
        )
    loaded = backend.load(path, options)
    noted = loaded.metadata.architecture
    if noted and options.architecture not in (None, noted):
        raise CheckpointError(f"{path}: is of {noted}, not of {options.architecture}")
    if options.device == "cuda" and not backend.on_gpu:
        raise ModelError(
            f"{path}: a file of the kind {loaded.description!r} runs on the CPU; leave the device "
            "out, or give the checkpoint that it was exported from"
        )
    return loaded


def recognise(path: Path) -> Backend:
    """Return the backend for a file, by the file's content.

    Raises:
        CheckpointError: the file is missing, cut short, or of no kind that is known.
    """
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {found}; give the path of a model file")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    known = []
    for _, backend in BACKENDS.items():
        if backend.recognise(path, head):
            return backend
        known.append(backend.description)
    kind = kind_of_file(path)
    found = f"is {kind}, " if kind else ""
    raise CheckpointError(
        f"{path}: {found}not a model file that is known; "
        f"expected {', '.join(known[:-1])} or {known[-1]}"
    )


def model_file_parts(path: Path) -> list[Path]:
    """Return the files that a model consists of: its file, and those that belong to it."""
    suffixes = {
        part for _, backend in BACKENDS.items() for part in backend.parts.get(path.suffix, ())
    }
    return [path, *(path.with_suffix(suffix) for suffix in sorted(suffixes))]

"""Shared libraries of the C engine, loaded by ctypes; NumPy alone is needed.

A library is a program: it runs with the rights of who loads it. Load none of unknown origin.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import platform
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    Backend,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.inference.backends.base import thread_count

MARKER = b"reid_edge C engine 1:"
# ELF: the processor is a number at this place.
_ELF, _MACHINE_PLACE = b"\x7fELF", 18
_MACHINES = {"x86_64": 62, "aarch64": 183}
_FLOAT = 0
_ERRORS = {
    1: "a bad argument",
    2: "its weights are damaged; copy the file again",
    3: "the processor does not have these kernels",
    4: "out of memory",
    5: "images of another size",
}


def load(path: Path, options: LoadOptions, kernels: str | None = None) -> LoadedModel:
    """Load a shared library that the exporter ``c`` built.

    Each thread gets a model of its own, and the images of a batch are shared among them.

    Args:
        path: of the library.
        options: the number of threads counts.
        kernels: by name, see the library's header; None: the fastest of this processor.

    Raises:
        CheckpointError: the file is damaged, of another processor, or no such library.
        ModelError: the kernels are not those of this processor.
    """
    metadata = ModelMetadata.from_strings(_read_metadata(path), path)
    try:
        library = ctypes.CDLL(str(path.resolve()))
        library.reid_stored_weights.restype = ctypes.c_void_p
        size = ctypes.c_size_t()
        weights = library.reid_stored_weights(ctypes.byref(size))
        shape = (ctypes.c_int * 3).in_dll(library, "reid_shape")
    except (OSError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be loaded as a library (damaged, or built for another system): {error}"
        ) from error
    height, width, length = shape
    models = [_create(library, path, weights, size, kernels) for _ in range(thread_count(options))]
    pool = ThreadPoolExecutor(len(models)) if len(models) > 1 else None

    def embed_part(model: ctypes.c_void_p, images: Images, out: Embeddings) -> None:
        error = library.reid_embed(
            model,
            _FLOAT,
            images.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_size_t(len(images)),
            ctypes.c_size_t(images.shape[2]),
            ctypes.c_size_t(images.shape[3]),
            out.ctypes.data_as(ctypes.c_void_p),
        )
        if error:
            raise ModelError(f"{path}: {_ERRORS.get(error, f'error {error}')}")

    def embed(images: Images) -> Embeddings:
        if images.shape[1:] != (3, height, width):
            given = "x".join(str(side) for side in images.shape[-2:])
            raise ModelError(
                f"{path}: the model fails on images of {given}; it takes {height}x{width}"
            )
        ordered = np.ascontiguousarray(images, np.float32)
        out = np.empty((len(ordered), length), np.float32)
        parts = min(len(models), len(ordered))
        if pool is None or parts < 2:
            embed_part(models[0], ordered, out)
            return out
        places = zip(
            models, np.array_split(ordered, parts), np.array_split(out, parts), strict=False
        )
        for done in [pool.submit(embed_part, *each) for each in places]:
            done.result()
        return out

    weakref.finalize(embed, _destroy, library, models)
    return LoadedModel(embed, metadata, "C library")


def _create(library: Any, path: Path, weights: int, size: Any, kernels: str | None) -> Any:
    model = ctypes.c_void_p()
    name = None if kernels is None else kernels.encode()
    # The library stays loaded with the weights in it. Older ones have the other function alone.
    in_place = hasattr(library, "reid_create_in_place")
    create = library.reid_create_in_place if in_place else library.reid_create
    error = create(ctypes.c_void_p(weights), size, name, ctypes.byref(model))
    if error == 2:
        raise CheckpointError(f"{path}: {_ERRORS[2]}")
    if error:
        raise ModelError(f"{path}: {_ERRORS.get(error, f'error {error}')}")
    return model


def _destroy(library: Any, models: list[Any]) -> None:
    for model in models:
        library.reid_destroy(model)


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata off the file; none of its code runs before it is known to be ours."""
    try:
        # Mapped and not read: the file is as large as the weights.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            start = whole.find(MARKER)
            machine = int.from_bytes(whole[_MACHINE_PLACE : _MACHINE_PLACE + 2], "little")
            text = b"" if start < 0 else whole[start + len(MARKER) : whole.find(b"\0", start)]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if start < 0:
        raise CheckpointError(
            f"{path}: a library or program that is no model; give one that the exporter c built"
        )
    own = platform.machine()
    if _MACHINES.get(own) != machine:
        built = next((name for name, number in _MACHINES.items() if number == machine), "another")
        raise CheckpointError(
            f"{path}: built for {built}, this machine is {own}; run make in its source's folder"
        )
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged metadata; export the model again") from error


def _recognise(_: Path, head: bytes) -> bool:
    return head[:4] == _ELF


BACKEND = Backend(
    "c",
    "the library of a C engine",
    _recognise,
    load,
    meant_for="Linux on x86-64 and ARM (C compiler)",
)

"""NCNN files, run on the CPU in single precision; PyTorch is not needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.model_file import (
    Backend,
    Embeddings,
    Images,
    LoadedModel,
    LoadOptions,
)
from reid_edge.core.packages import import_package
from reid_edge.core.sidecar import read_sidecar
from reid_edge.inference.backends.base import thread_count

CHANNELS = 3
_HEAD = "7767517"


def load(path: Path, options: LoadOptions) -> LoadedModel:
    """Load an NCNN file; its only input is an image, its first output the embedding.

    NCNN takes one image at a time, so that a batch is a loop.

    Args:
        path: the graph, ``.param``; the weights, ``.bin``, are beside it under the same name, and
            the metadata, ``.json``, if they were exported here.
        options: the number of threads counts.

    Raises:
        CheckpointError: a file is missing or damaged, or the files do not belong together.
        ModelError: the package ncnn does not load.
    """
    ncnn = import_package("ncnn", extra="ncnn", needed_by=path, error=ModelError)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise CheckpointError(f"{weights}: no such file; an NCNN model is two, copy both")
    metadata = read_sidecar(path.with_suffix(".json"), (path, weights))
    _check_graph(path)
    net = ncnn.Net()
    net.opt.num_threads = thread_count(options)
    net.opt.use_vulkan_compute = False
    # Without being asked, NCNN computes in half precision on processors that have it.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(path)) != 0 or net.load_model(str(weights)) != 0:
        raise CheckpointError(f"{path}: not a readable NCNN file (damaged, or needs a newer ncnn)")
    inputs, outputs = net.input_names(), net.output_names()
    if len(inputs) != 1 or not outputs:
        raise CheckpointError(
            f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; expected images alone, "
            "and embeddings"
        )

    def embed_one(image: Images) -> Embeddings:
        extractor = net.create_extractor()
        extractor.input(inputs[0], ncnn.Mat(np.ascontiguousarray(image)).clone())
        code, found = extractor.extract(outputs[0])
        if code != 0:
            raise ModelError(
                f"{path}: the model fails on images of {image.shape[-2]}x{image.shape[-1]}"
            )
        return np.array(found, dtype=np.float32).reshape(-1)

    def embed(images: Images) -> Embeddings:
        # NCNN reads the weights for other channels as well, without a check.
        if images.shape[1] != CHANNELS:
            raise ModelError(f"{path}: the model fails on images of {images.shape[1]} channels")
        return np.stack([embed_one(image) for image in images])

    return LoadedModel(embed, metadata, "NCNN", (weights,))


def _check_graph(path: Path) -> None:
    """Check the counts of a graph: NCNN itself reads beyond what a shortened file holds."""
    try:
        head, counts, *lines = path.read_text(encoding="utf-8").splitlines()
        layers, _ = (int(count) for count in counts.split())
        whole = head.strip() == _HEAD and layers == sum(bool(line.strip()) for line in lines)
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: not a readable NCNN graph (damaged or cut short)")


def _recognise(_: Path, head: bytes) -> bool:
    return head.split(b"\n", 1)[0].strip() == _HEAD.encode()


BACKEND = Backend(
    "ncnn",
    "the .param of an NCNN file",
    _recognise,
    load,
    meant_for="phones, ARM boards (NCNN)",
    packages=("ncnn",),
    extra="ncnn",
    parts={".param": (".bin", ".json")},
)

"""Any model file as an embedder."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid_edge.core.backends import load_model_file
from reid_edge.core.devices import Device
from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_files
from reid_edge.core.model_file import Backend, LoadOptions
from reid_edge.data.paths import expand_home
from reid_edge.inference.embedder import (
    COLOUR_ORDERS,
    Embedder,
    EmbeddingSpace,
    average_over_flip,
)

DEFAULT_INPUT_SIZE = (256, 128)
LARGEST_SIDE = 4096


def load_embedder(
    path: Path,
    *,
    architecture: str | None = None,
    input_size: tuple[int, int] | None = None,
    flip_averaging: bool = False,
    device: Device = "cpu",
    backend: Backend | None = None,
) -> Embedder:
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

    Raises:
        CheckpointError: the file is missing, damaged, not safe, or of no kind that is known.
        DataError: its path begins with the home of nobody.
        ModelError: the architecture is not known, or the model cannot be run here.
    """
    path = expand_home(path)
    loaded = load_model_file(path, LoadOptions(architecture, device), backend)

    def embed(images: Tensor) -> Tensor:
        output = loaded.embed(images.numpy(force=True))
        return torch.from_numpy(output) if isinstance(output, np.ndarray) else output

    metadata = loaded.metadata
    if metadata.colour_order not in COLOUR_ORDERS:
        raise CheckpointError(
            f"{path}: colour order {metadata.colour_order!r}; expected {' or '.join(COLOUR_ORDERS)}"
        )
    if not all(std > 0 for std in metadata.std):
        raise CheckpointError(f"{path}: a std of {metadata.std}; expected above zero")
    size = input_size or metadata.input_size or DEFAULT_INPUT_SIZE
    if not 1 <= min(size) <= max(size) <= LARGEST_SIDE:
        raise ModelError(
            f"an input of {size[0]}x{size[1]}: sides are of 1 to {LARGEST_SIDE} pixels"
        )
    return Embedder(
        embed=average_over_flip(embed) if flip_averaging else embed,
        space=EmbeddingSpace(
            file_hash=hash_files((path, *loaded.weight_files)),
            input_size=size,
            flip_averaging=flip_averaging,
            architecture=metadata.architecture,
            mean=metadata.mean,
            std=metadata.std,
            colour_order=metadata.colour_order,
        ),
        description=f"{metadata.architecture or 'unnamed model'}, {loaded.description}",
        path=path,
    )

"""The int8 weights and corrected biases of an int8 ONNX file, for formats with their own quantizer.

Other quantizers round each weight to the nearest step. They keep weights that are on the steps
already, here those of ``onnx_refine``.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from quantize.exporters.onnx_float import read_onnx, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from reid_edge.core.errors import QuantizeError, reason_of

if TYPE_CHECKING:
    from torch import Tensor

# The name that the writer of ONNX files gives to the network within its last layer.
NETWORK = "model"

logger = logging.getLogger(__name__)


def round_layers(network: nn.Module, calibration: Sequence[Tensor], called: str) -> int:
    """Give dense layers the weights and biases of the network's int8 ONNX file, in place.

    The largest weight of each output channel stays, and with it the step of the channel, which is a
    127th of it. A layer whose weights the ONNX file has not, or has under another name, stays.

    Args:
        network: in evaluation mode, without BatchNorm, from images to embeddings (N, D).
        calibration: batches (N, 3, H, W), prepared exactly as for inference.
        called: the file that is made, in messages.

    Returns:
        The number of layers that have other weights now.
    """
    from onnx import numpy_helper

    with tempfile.TemporaryDirectory() as folder:
        float_file, int8_file = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        try:
            save_onnx(network, calibration[0][:1], float_file, {})
            quantize_onnx(float_file, calibration, int8_file, method="minmax")
        except MemoryError:
            raise
        except Exception as error:  # what ONNX Runtime raises has no common base
            _warn(called, str(error) if isinstance(error, QuantizeError) else reason_of(error))
            return 0
        tensors = read_onnx(int8_file).graph.initializer
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    taken = sum(
        _take_rounded(layer, f"{NETWORK}.{name}", stored)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    )
    if not taken:
        _warn(called, "the int8 ONNX file has no weights of its layers' names")
    return taken


def _warn(called: str, reason: str) -> None:
    logger.warning("%s: weights are rounded to the nearest: %s", called, reason)


def _take_rounded(
    layer: nn.Conv2d | nn.Linear, name: str, stored: Mapping[str, NDArray[Any]]
) -> bool:
    """Take the weights and the bias of a layer from a file's constants, if they are there."""
    import torch

    weights = _in_float(f"{name}.weight", stored)
    own = layer.weight.detach().numpy()
    if weights is None or weights.shape != own.shape:
        return False
    rows, flat = np.arange(len(own)), own.reshape(len(own), -1)
    largest = np.abs(flat).argmax(1)
    taken = weights.reshape(len(own), -1)
    taken[rows, largest] = flat[rows, largest]
    layer.weight.detach().copy_(torch.from_numpy(taken.reshape(own.shape)))
    bias = _in_float(f"{name}.bias", stored)
    if layer.bias is not None and bias is not None and bias.shape == tuple(layer.bias.shape):
        layer.bias.detach().copy_(torch.from_numpy(bias))
    return True


def _in_float(name: str, stored: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
    """Return a constant of a QDQ file, which has it in float or as integers with their scale."""
    integers, scale = stored.get(f"{name}_quantized"), stored.get(f"{name}_scale")
    if integers is None:
        found = stored.get(name)
        return None if found is None else found.astype(np.float32)
    if scale is None:
        scale = stored.get(f"{name}_quantized_scale")
    if scale is None:
        return None
    steps = scale.reshape([-1] + [1] * (integers.ndim - 1))
    floats: NDArray[np.float32] = (integers.astype(np.float64) * steps).astype(np.float32)
    return floats

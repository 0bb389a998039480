"""The int8 file that NNCF makes, beside ours.

NNCF 3.4 (Intel's Neural Network Compression Framework): ``nncf.quantize`` on an ONNX file, with its
fast bias correction; ``pip install nncf==3.4.0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from quantize.exporters.onnx_float import read_onnx
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import ONNX_INPUT

# Symmetric ranges of activations, and ranges with a zero point of their own.
PRESETS = ("performance", "mixed")


def quantize_by_nncf(
    float_file: Path, calibration: Sequence[Tensor], path: Path, *, preset: str
) -> None:
    """Write an int8 form of a float ONNX file by NNCF.

    Args:
        float_file: made by ``save_onnx``.
        calibration: batches (N, 3, H, W); NNCF is given the images one at a time.
        path: where to write.
        preset: "performance" or "mixed".

    Raises:
        QuantizeError: NNCF is not installed.
    """
    nncf = import_nncf()
    images = [image.numpy() for batch in calibration for image in torch.split(batch, 1)]
    quantized = nncf.quantize(
        read_onnx(float_file),
        nncf.Dataset(images, lambda image: {ONNX_INPUT: image}),
        preset=nncf.QuantizationPreset(preset),
        subset_size=len(images),
    )
    onnx.save_model(quantized, path)


def import_nncf() -> Any:
    """Return the package.

    Raises:
        QuantizeError: it is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise QuantizeError("nncf is not installed; pip install nncf==3.4.0") from error
    return nncf

"""Post-training static quantization with FX: a float model and images in, an int8 model out."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

from torch import Tensor, fx, nn
from torch.ao.quantization.quantize_fx import convert_fx

from quantize.calibrate import DEFAULT_SCHEME, Calibrated, Scheme, calibrate
from quantize.corrections import correct_bias, raise_weight_scales
from quantize.quiet import torch_notices_silenced
from reid_edge.core.int8_engine import quantized_engine


def quantize_static(
    model: nn.Module,
    calibration: Iterable[Tensor],
    scheme: Scheme = DEFAULT_SCHEME,
    *,
    bias_correction: bool = True,
    progress: Callable[[int], None] | None = None,
) -> fx.GraphModule:
    """Quantize weights to qint8 and activations to quint8.

    BatchNorm is folded into the layer in front of it, and a module that is called several times
    gets its own ranges for each call (see ``quantize.call_sites``). The model is left as it is.

    Args:
        model: any ``torch.fx`` traceable module; it is quantized as it is in evaluation mode.
        calibration: batches (N, 3, H, W), prepared exactly as for inference; a few hundred
            images are enough. They are read once.
        scheme: what is to become int8, and how.
        bias_correction: take back the mean error of every channel (``quantize.bias_correction``).
        progress: called after each batch with the number of images seen so far.

    Returns:
        An int8 model on the CPU, float in and float out, to be run with ``quantized_engine``.
        The same inputs give the same bits. ``quantize.count`` says what became int8.

    Raises:
        QuantizeError: as ``calibrate``.
    """
    calibrated = calibrate(model, calibration, scheme, progress=progress)
    return convert_calibrated(calibrated, bias_correction=bias_correction)


def convert_calibrated(calibrated: Calibrated, *, bias_correction: bool = True) -> fx.GraphModule:
    """Make the int8 model of a calibrated one, which is left as it is.

    Args:
        calibrated: weights and ranges.
        bias_correction: take back the mean error of every channel (``quantize.bias_correction``).

    Returns:
        An int8 model, as ``quantize_static`` does.
    """
    with quantized_engine(calibrated.scheme.engine), torch_notices_silenced():
        return convert_fx(_ready_copy(calibrated, bias_correction=bias_correction))


def with_corrected_biases(calibrated: Calibrated) -> Calibrated:
    """Return a copy whose biases remove the mean error of every channel, as in static int8.

    Training starts from it. The trained model is converted without another correction, because a
    correction compares with float arithmetic, and the weights were trained for int8 arithmetic.
    """
    with quantized_engine(calibrated.scheme.engine):
        return replace(calibrated, prepared=_ready_copy(calibrated, bias_correction=True))


def _ready_copy(calibrated: Calibrated, *, bias_correction: bool) -> fx.GraphModule:
    prepared = copy.deepcopy(calibrated.prepared)
    raise_weight_scales(prepared)
    if bias_correction:
        correct_bias(prepared, calibrated.sample)
    return prepared

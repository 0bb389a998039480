"""Post-training static quantization with FX: a float model and pictures in, an int8 model out."""

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    QConfig,
    QConfigMapping,
    default_per_channel_weight_observer,
    default_weight_observer,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

from quantize.bias_correction import correct_bias
from quantize.call_sites import call_sites, split_call_sites
from quantize.engine import Engine, quantized_engine, uses_reduced_range
from quantize.errors import QuantizeError
from quantize.even_sample import EvenSample
from quantize.fold import fold_batchnorm
from quantize.layer_names import check_layer_names, is_inside
from quantize.quiet import torch_notices_silenced
from quantize.weight_scales import raise_weight_scales

ObserverName = Literal["histogram", "minmax", "moving_average"]
# Enough for means over batch and space; all of them go through the model at once.
BIAS_PICTURES = 32

_OBSERVERS: dict[str, Any] = {
    "histogram": HistogramObserver,
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageMinMaxObserver,
}
_log = logging.getLogger(__name__)


def quantize_static(
    model: nn.Module,
    calibration: Iterable[Tensor],
    *,
    engine: Engine = "qnnpack",
    per_channel: bool = True,
    observer: ObserverName = "histogram",
    float_layers: Sequence[str] = (),
    bias_correction: bool = True,
    progress: Callable[[int], None] | None = None,
) -> fx.GraphModule:
    """Quantize weights to qint8 and activations to quint8.

    BatchNorm is folded into the layer in front of it, and a module that is called several times
    gets its own ranges for each call (see ``quantize.call_sites``). The model is left as it is.

    Args:
        model: any ``torch.fx`` traceable module; it is quantized as it is in evaluation mode.
        calibration: batches (N, 3, H, W), prepared exactly as for inference; a few hundred
            pictures are enough. Gone through once.
        engine: what the int8 model will run on.
        per_channel: one weight scale per output channel instead of one per layer.
        observer: how the range of an activation is chosen: "histogram" by least squared error,
            "minmax" as the whole range, "moving_average" as the mean range of the batches.
        float_layers: names of modules to leave in float, with all modules inside them. Operators
            written inline, such as ``+``, belong to no module and become int8.
        bias_correction: take back the mean error of every channel (``quantize.bias_correction``).
        progress: called after each batch with the number of pictures seen so far.

    Returns:
        An int8 model on the CPU, float in and float out, to be run with ``quantized_engine``.
        The same inputs give the same bits. ``quantize.count`` says what became int8.

    Raises:
        QuantizeError: no calibration pictures, or not tensors of finite numbers; an unknown
            observer or layer, or an engine that is not supported here; a model that cannot be
            traced.
    """
    _check_observer(observer)
    check_layer_names(model, float_layers)
    with quantized_engine(engine), torch_notices_silenced():
        evaluated = copy.deepcopy(model).cpu().eval()
        graph = split_call_sites(evaluated)
        fold_batchnorm(graph)
        mapping = _qconfig_mapping(engine, per_channel, observer)
        for site, module in call_sites(evaluated).items():
            if is_inside(module, float_layers):
                mapping.set_module_name(site, None)
        # The example only matters to quantizers of other kinds than this one.
        prepared = prepare_fx(graph, mapping, (torch.zeros(1, 3, 1, 1),))
        sample = _calibrate(prepared, calibration, progress)
        raised = raise_weight_scales(prepared)
        _log.debug("%d channels have weights too small for an int8 scale of their own", raised)
        if bias_correction:
            correct_bias(prepared, sample)
        return convert_fx(prepared)


def _check_observer(observer: str) -> None:
    if observer not in _OBSERVERS:
        known = ", ".join(get_args(ObserverName))
        raise QuantizeError(f"unknown observer {observer!r}: known are {known}")


def _qconfig_mapping(engine: Engine, per_channel: bool, observer: ObserverName) -> QConfigMapping:
    # PyTorch's own "per channel symmetric QNNPACK" configuration has signed activations, for which
    # FX finds no int8 layers: without a word, everything stays in float.
    activation = _OBSERVERS[observer].with_args(
        dtype=torch.quint8, reduce_range=uses_reduced_range(engine)
    )
    weight = default_per_channel_weight_observer if per_channel else default_weight_observer
    mapping = get_default_qconfig_mapping(engine)
    return mapping.set_global(QConfig(activation=activation, weight=weight))  # type: ignore[no-untyped-call]


@torch.inference_mode()
def _calibrate(
    prepared: fx.GraphModule,
    calibration: Iterable[Tensor],
    progress: Callable[[int], None] | None,
) -> Tensor:
    """Show all batches to the observers; return a sample of the pictures."""
    sample, seen = EvenSample(BIAS_PICTURES), 0
    size: torch.Size | None = None
    for index, batch in enumerate(calibration):
        pictures = _checked(batch, index, size)
        size = pictures.shape[1:]
        prepared(pictures)
        sample.add(pictures)
        seen += len(pictures)
        if progress is not None:
            progress(seen)
    if seen == 0:
        raise QuantizeError("no calibration pictures: int8 ranges cannot be chosen without them")
    return sample.pictures()


def _checked(batch: object, index: int, size: torch.Size | None) -> Tensor:
    what = f"calibration batch {index}"
    if not isinstance(batch, Tensor):
        raise QuantizeError(f"{what} is a {type(batch).__name__}, not a tensor of pictures")
    if batch.dim() != 4:
        raise QuantizeError(f"{what} has shape {tuple(batch.shape)}, expected (N, 3, H, W)")
    if size is not None and batch.shape[1:] != size:
        before, now = tuple(size), tuple(batch.shape[1:])
        raise QuantizeError(f"{what} holds pictures of size {now}, those before had {before}")
    if not torch.isfinite(batch).all():
        raise QuantizeError(f"{what} holds numbers that are not finite")
    return batch.cpu()

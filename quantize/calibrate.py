"""Calibration: a float model runs on images, and observers record the ranges of activations."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.ao.quantization import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    QConfig,
    QConfigMapping,
    default_per_channel_weight_observer,
    default_weight_observer,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import prepare_fx

from quantize.call_sites import call_sites, check_layer_names, is_inside, split_call_sites
from quantize.fold import fold_batchnorm
from quantize.histogram import QuickHistogramObserver
from quantize.pooling import keep_pooling_in_float, prepare_custom_config
from quantize.prepared import fix_ranges, observed_nodes
from quantize.quiet import torch_notices_silenced
from quantize.shared_calibration import observe_together
from quantize.trace_check import check_trace
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exchange import Ranks
from reid_edge.core.int8_engine import Engine, quantized_engine, uses_reduced_range
from reid_edge.core.memory import freed_memory_kept

ObserverName = Literal["histogram", "minmax", "moving_average"]
# Enough for means over batch and space; they go through the model in one batch.
BIAS_IMAGES = 32

_OBSERVERS: dict[str, Any] = {
    "histogram": QuickHistogramObserver,
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageMinMaxObserver,
}


@dataclass(frozen=True)
class Scheme:
    """The parts of a model that become int8, the engine, and how ranges are found.

    Attributes:
        engine: what the int8 model will run on.
        per_channel: one weight scale per output channel instead of one per layer.
        observer: how the range of an activation is chosen: "histogram" by least squared error,
            "minmax" as the whole range, "moving_average" as the mean range of the batches.
        float_layers: names of modules to leave in float, with all modules inside them. Operators
            written inline, such as ``+``, belong to no module and become int8.
    """

    engine: Engine = "qnnpack"
    per_channel: bool = True
    observer: ObserverName = "histogram"
    float_layers: tuple[str, ...] = ()


DEFAULT_SCHEME = Scheme()

AskCalibration = Callable[[nn.Module, Scheme], Ranks]
"""Lets other processes call :func:`observe_share` for a model."""


@dataclass(frozen=True)
class Calibrated:
    """A float model with the ranges of its int8 form.

    Attributes:
        prepared: the result of ``prepare_fx``, with folded BatchNorms and no module called twice;
            its observers hold the ranges of the calibration images.
        sample: (N, 3, H, W), some of these images.
        scheme: of its int8 form.
    """

    prepared: fx.GraphModule
    sample: Tensor
    scheme: Scheme


@freed_memory_kept()
def calibrate(
    model: nn.Module,
    calibration: Iterable[Tensor],
    scheme: Scheme = DEFAULT_SCHEME,
    *,
    progress: Callable[[int], None] | None = None,
    ask: AskCalibration | None = None,
) -> Calibrated:
    """Choose the ranges of all activations; the model is left as it is.

    Args:
        model: any ``torch.fx`` traceable module; it is taken as it is in evaluation mode.
        calibration: batches (N, 3, H, W), prepared exactly as for inference; a few hundred
            images are enough. They are read once.
        scheme: what is to become int8, and how.
        progress: called after each batch with the number of images seen so far.
        ask: lets other processes take their share of the batches, and returns them; the ranges are
            the same. None: this process takes all.

    Raises:
        QuantizeError: no calibration images, or not tensors of finite numbers; an unknown
            observer or layer, or an engine that is not supported here; a model that cannot be
            traced, whose trace computes something else, or whose output is not finite.
    """
    if scheme.observer not in _OBSERVERS:
        known = ", ".join(get_args(ObserverName))
        raise QuantizeError(f"unknown observer {scheme.observer!r}: known are {known}")
    check_layer_names(model, scheme.float_layers)
    with quantized_engine(scheme.engine), torch_notices_silenced():
        batches = _checked_batches(calibration)
        first = list(islice(batches, 1))
        prepared = _prepare(model, scheme, *first)
        sample, seen = EvenSample(BIAS_IMAGES), 0
        with torch.inference_mode():
            observed: Iterable[Tensor]
            if ask is None:
                observed = _observe(prepared, chain(first, batches), progress)
            else:
                observed = [*first, *batches]
                if observed:
                    observe_together(prepared, ask(model, scheme), observed, progress)
            for images in observed:
                sample.add(images)
                seen += len(images)
            if seen == 0:
                raise QuantizeError(
                    "no calibration images: int8 ranges cannot be chosen without them"
                )
            bias_images = sample.images()
        fix_ranges(prepared)
    return Calibrated(prepared, bias_images, scheme)


def _observe(
    prepared: nn.Module, batches: Iterable[Tensor], progress: Callable[[int], None] | None
) -> Iterator[Tensor]:
    """Yield batches after the observers have seen them."""
    seen = 0
    for images in batches:
        prepared(images)
        seen += len(images)
        yield images
        if progress is not None:
            progress(seen)


@freed_memory_kept()
def observe_share(model: nn.Module, scheme: Scheme, ranks: Ranks) -> None:
    """Observe the batches of :func:`calibrate` that rank zero deals to this process."""
    with quantized_engine(scheme.engine), torch_notices_silenced(), torch.inference_mode():
        observe_together(_prepare(model, scheme), ranks)


def keep_in_float(
    model: nn.Module, calibrated: Calibrated, float_layers: Sequence[str]
) -> Calibrated:
    """Return the result of ``calibrate`` with more layers in float; no images are needed.

    The ranges are those of the float model and do not depend on the layers that become int8.

    Args:
        model: as it was calibrated.
        calibrated: with these layers not in float.
        float_layers: to leave in float besides those that are so already.

    Raises:
        QuantizeError: the model has no such layer.
    """
    check_layer_names(model, float_layers)
    former = calibrated.scheme
    scheme = replace(former, float_layers=(*former.float_layers, *float_layers))
    with quantized_engine(scheme.engine), torch_notices_silenced():
        prepared = _prepare(model, scheme)
    known = observed_nodes(calibrated.prepared)
    for producer, name in observed_nodes(prepared).items():
        seen = calibrated.prepared.get_submodule(known[producer])
        prepared.set_submodule(name, copy.deepcopy(seen))
    return Calibrated(prepared, calibrated.sample, scheme)


def _prepare(model: nn.Module, scheme: Scheme, images: Tensor | None = None) -> fx.GraphModule:
    """Return a model's graph with observers; with images, it is compared with the model first."""
    evaluated = copy.deepcopy(model).cpu().eval()
    graph = split_call_sites(evaluated)
    if images is not None:
        check_trace(graph, evaluated, images)
    fold_batchnorm(graph)
    keep_pooling_in_float(graph)
    # PyTorch's own "per channel symmetric QNNPACK" configuration has signed activations. FX has no
    # int8 layers for these, so everything would stay in float without a message.
    activation = _OBSERVERS[scheme.observer].with_args(
        dtype=torch.quint8, reduce_range=uses_reduced_range(scheme.engine)
    )
    weight = default_per_channel_weight_observer if scheme.per_channel else default_weight_observer
    qconfig: Any = QConfig(activation=activation, weight=weight)  # type: ignore[no-untyped-call]
    mapping = get_default_qconfig_mapping(scheme.engine).set_global(qconfig)
    leave_in_float(mapping, evaluated, scheme.float_layers)
    # This quantizer does not use the example.
    return prepare_fx(
        graph, mapping, (torch.zeros(1, 3, 1, 1),), prepare_custom_config=prepare_custom_config()
    )


def leave_in_float(
    mapping: QConfigMapping, model: nn.Module, float_layers: Sequence[str]
) -> QConfigMapping:
    """Exclude all calls of layers and of the layers inside them from a mapping; return it."""
    for site, module in call_sites(model).items():
        if is_inside(module, float_layers):
            mapping.set_module_name(site, None)
    return mapping


def _checked_batches(calibration: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield batches on the CPU, each checked: tensors of finite numbers, images of one size."""
    size: torch.Size | None = None
    for index, batch in enumerate(calibration):
        what = f"calibration batch {index}"
        if not isinstance(batch, Tensor):
            raise QuantizeError(f"{what} is a {type(batch).__name__}, not a tensor of images")
        if batch.dim() != 4:
            raise QuantizeError(f"{what} has shape {tuple(batch.shape)}, expected (N, 3, H, W)")
        if size is not None and batch.shape[1:] != size:
            before, now = tuple(size), tuple(batch.shape[1:])
            raise QuantizeError(f"{what} holds images of size {now}, those before had {before}")
        if not torch.isfinite(batch).all():
            raise QuantizeError(f"{what} holds numbers that are not finite")
        size = batch.shape[1:]
        yield batch.cpu()


class EvenSample:
    """At most twice ``target`` images of a stream of batches, evenly spaced over it.

    Args:
        target: smallest size of the sample, if there are enough images.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._stride = 1
        self._seen = 0
        self._kept: list[Tensor] = []

    def add(self, batch: Tensor) -> None:
        """Add the next images of the sample from a batch (N, C, H, W)."""
        for image in batch:
            if self._seen % self._stride == 0:
                # A copy, because a view would keep the whole batch in memory.
                self._kept.append(image.clone())
            self._seen += 1
            if len(self._kept) >= 2 * self._target:
                self._kept = self._kept[::2]
                self._stride *= 2

    def images(self) -> Tensor:
        """Return the sample (M, C, H, W)."""
        return torch.stack(self._kept)

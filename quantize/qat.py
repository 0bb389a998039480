"""Quantization-aware training: a float model is trained with the rounding of int8.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018: rounding in the forward pass, straight through in the backward pass. Training
starts from the ranges of calibration and gives weights and ranges for the same graph, so both
variants of int8 share all later steps.
"""

import copy
from collections import defaultdict
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.ao.nn.intrinsic.qat import freeze_bn_stats
from torch.ao.quantization import (
    FakeQuantize,
    FixedQParamsFakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    ObserverBase,
    QConfig,
    QConfigMapping,
    get_default_qat_qconfig_mapping,
)
from torch.ao.quantization.backend_config import get_qnnpack_backend_config
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torch.nn.modules.batchnorm import _BatchNorm

from quantize.calibrate import Calibrated, Scheme, leave_in_float
from quantize.call_sites import call_sites, split_call_sites
from quantize.fold import fold_batchnorm, folded_layer, layer_and_norm
from quantize.pooling import keep_pooling_in_float, prepare_custom_config
from quantize.prepared import fixed_range, observed_nodes, quantization_of, weighted_layers
from quantize.quiet import torch_notices_silenced
from reid_edge.core.int8_engine import quantized_engine, uses_reduced_range

# FX divides by a BatchNorm's scale, which is zero in channels that training switched off.
SMALLEST_SCALE = 1e-8


def prepare_qat(model: nn.Module, calibrated: Calibrated) -> fx.GraphModule:
    """Return a trainable copy of a model that rounds weights and activations as int8 will.

    A convolution is fused with its BatchNorm, whose statistics are learned until
    ``freeze_batchnorm``. The BatchNorm of a linear layer is folded, because FX cannot fuse it with
    a ReLU. Weights are rounded to their current range. All calls of a module share its weights, but
    each call has its own ranges.

    Args:
        model: as it was calibrated; it is left as it is.
        calibrated: the ranges and biases to start from (``quantize.static.with_corrected_biases``).

    Returns:
        A graph module in training mode that maps images to what the model returns in
        evaluation mode.
    """
    scheme = calibrated.scheme
    with quantized_engine(scheme.engine), torch_notices_silenced():
        evaluated = copy.deepcopy(model).cpu().eval()
        graph = split_call_sites(evaluated)
        fold_batchnorm(graph, layers=(nn.Linear,))
        keep_pooling_in_float(graph)
        mapping = leave_in_float(_qconfig_mapping(scheme), evaluated, scheme.float_layers)
        qat = prepare_qat_fx(
            graph.train(),
            mapping,
            (torch.zeros(1, 3, 1, 1),),
            prepare_custom_config=prepare_custom_config(),
            backend_config=get_qnnpack_backend_config(),
        )
    for parameter in qat.parameters():
        parameter.requires_grad_(True)
    modules = dict(qat.named_modules(remove_duplicate=False))
    for site, first_site in call_sites(evaluated).items():
        # A ReLU may be part of the layer before it at one call and not at another.
        if site != first_site and site in modules and first_site in modules:
            own, first = layer_and_norm(modules[site]), layer_and_norm(modules[first_site])
            for part, shared in zip(own, first, strict=True):
                if part is not None and shared is not None:
                    for name, parameter in shared.named_parameters(recurse=False):
                        setattr(part, name, parameter)
    with torch.no_grad():
        for module in qat.modules():
            if isinstance(module, _BatchNorm) and module.affine:
                module.weight[module.weight.abs() < SMALLEST_SCALE] = SMALLEST_SCALE
    _start_from(qat, calibrated.prepared)
    return qat


def freeze_observers(qat: nn.Module) -> None:
    """Stop learning the ranges of all activations."""
    for module in qat.modules():
        if isinstance(module, FusedMovingAvgObsFakeQuantize):
            module.disable_observer()


def freeze_batchnorm(qat: nn.Module) -> None:
    """Keep all BatchNorm statistics as they are; to be called again after ``train()``."""
    qat.apply(freeze_bn_stats)
    for module in qat.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@torch.no_grad()
def trained_calibration(qat: fx.GraphModule, calibrated: Calibrated) -> Calibrated:
    """Return a copy of a calibrated model with the weights and ranges that training found.

    Layers that stay in float are trained too, so their weights are copied as well.

    Args:
        qat: what ``prepare_qat`` made from ``calibrated``, trained; it is left as it is.
        calibrated: what training started from.
    """
    trained = copy.deepcopy(qat).cpu()
    prepared = copy.deepcopy(calibrated.prepared)
    modules = dict(prepared.named_modules(remove_duplicate=False))
    for node in prepared.graph.nodes:
        name = str(node.target)
        if node.op == "call_module" and not isinstance(modules[name], ObserverBase):
            layer, _ = layer_and_norm(modules[name])
            layer.load_state_dict(folded_layer(trained.get_submodule(name)).state_dict())
        elif node.op == "get_attr":
            # A parameter outside of torch.nn layers, such as the exponent of a pooling.
            owner, _, last = name.rpartition(".")
            value = getattr(prepared.get_submodule(owner), last)
            value.copy_(getattr(trained.get_submodule(owner), last))
    ranges = observed_nodes(trained)
    for producer, name in observed_nodes(prepared).items():
        fake: Any = trained.get_submodule(ranges[producer])
        if isinstance(fake, FixedQParamsFakeQuantize):
            continue
        prepared.set_submodule(name, fixed_range(fake, fake.scale, fake.zero_point))
    return replace(calibrated, prepared=prepared)


def _qconfig_mapping(scheme: Scheme) -> QConfigMapping:
    activation = FusedMovingAvgObsFakeQuantize.with_args(  # type: ignore[no-untyped-call]
        observer=MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=127 if uses_reduced_range(scheme.engine) else 255,
        dtype=torch.quint8,
    )
    # The fused kind is not used, because its scale differs from that of the observer that makes
    # the int8 weights. An averaging constant of 1 means the current range.
    weight = FakeQuantize.with_args(  # type: ignore[no-untyped-call]
        observer=MovingAveragePerChannelMinMaxObserver
        if scheme.per_channel
        else MovingAverageMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric if scheme.per_channel else torch.per_tensor_symmetric,
        averaging_constant=1.0,
    )
    mapping = get_default_qat_qconfig_mapping(scheme.engine)
    return mapping.set_global(QConfig(activation=activation, weight=weight))  # type: ignore[no-untyped-call]


@torch.no_grad()
def _start_from(qat: fx.GraphModule, prepared: fx.GraphModule) -> None:
    """Copy the ranges and biases of a calibrated model; the calls of a layer share a mean bias."""
    ranges = observed_nodes(prepared)
    for producer, name in observed_nodes(qat).items():
        fake: Any = qat.get_submodule(name)
        if isinstance(fake, FixedQParamsFakeQuantize):
            continue
        scale, zero_point = quantization_of(prepared.get_submodule(ranges[producer]))
        fake.scale.copy_(scale)
        fake.zero_point.copy_(zero_point)
        observer = fake.activation_post_process
        observer.min_val = ((fake.quant_min - zero_point) * scale).reshape(())
        observer.max_val = ((fake.quant_max - zero_point) * scale).reshape(())
    calls: dict[int, list[tuple[Any, Tensor]]] = defaultdict(list)
    for weighted in weighted_layers(prepared):
        if weighted.layer.bias is None:
            continue
        layer: Any = qat.get_submodule(str(weighted.node.target))
        now: Any = folded_layer(layer).bias
        shift = weighted.layer.bias - (0 if now is None else now)
        calls[id(layer.weight)].append((getattr(layer, "bn", layer), shift))
    for of_one_layer in calls.values():
        mean_shift = torch.stack([shift for _, shift in of_one_layer]).mean(0)
        bias = of_one_layer[0][0].bias
        shared = nn.Parameter(mean_shift if bias is None else bias + mean_shift)
        for owner, _ in of_one_layer:
            owner.bias = shared

"""Build models whose layers have other widths than their architecture declares.

Widths are data: a checkpoint keeps those that differ, and they are applied to a stock model.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.models.checkpoint_info import Widths


def widths_of(model: nn.Module) -> Widths:
    """Return [input, output] channels of every convolution and linear layer, by name."""
    widths: Widths = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            widths[name] = [module.in_channels, module.out_channels]
        elif isinstance(module, nn.Linear):
            widths[name] = [module.in_features, module.out_features]
    return widths


def differing_widths(model: nn.Module, stock: nn.Module) -> Widths:
    """Return the widths in which a model differs from the stock architecture."""
    reference = widths_of(stock)
    return {name: pair for name, pair in widths_of(model).items() if pair != reference.get(name)}


def differing_form(model: nn.Module, other: nn.Module) -> str | None:
    """Return the first layer whose stride, padding or the like differs between two models.

    Such layers have the same weights, but other outputs. Widths are not compared.
    """
    options = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    layers: dict[str, nn.Module] = dict(model.named_modules())
    others: dict[str, nn.Module] = dict(other.named_modules())
    for name in layers:
        if name in others and any(
            getattr(layers[name], option, None) != getattr(others[name], option, None)
            for option in options
        ):
            return name
    return None


def apply_widths(
    model: nn.Module, widths: Mapping[str, list[int]], state: Mapping[str, Tensor] | None = None
) -> None:
    """Give layers other widths, in place; their weights are random afterwards.

    Normalisation layers are not changed; :func:`match_normalisation` does that afterwards.

    Args:
        model: a stock architecture.
        widths: [input, output] channels by layer name.
        state: the weights that the layers are to hold; a layer of another size is not built.

    Raises:
        CheckpointError: a layer is not there, or widths are not positive or do not fit its groups
            or the weights.
    """
    modules = dict(model.named_modules())
    for name, pair in widths.items():
        if len(pair) != 2 or min(pair) < 1:
            raise CheckpointError(f"widths of {name!r} must be two positive numbers, not {pair}")
        if not isinstance(modules.get(name), nn.Conv2d | nn.Linear):
            raise CheckpointError(f"widths name {name!r}, which is no layer of the architecture")
    for name, pair in widths.items():
        module = modules[name]
        weight = None if state is None else state.get(f"{name}.weight")
        if weight is not None:
            outputs, inputs = weight.shape[:2] if weight.ndim > 1 else (0, 1)
            # A convolution has at most as many groups as outputs, each of so many inputs.
            possible = range(inputs, inputs * outputs + 1, max(inputs, 1))
            if pair[1] != outputs or pair[0] not in possible:
                raise CheckpointError(
                    f"widths of {name!r} are {pair}, and its weights are {tuple(weight.shape)}"
                )
        if isinstance(module, nn.Conv2d):
            _replace(model, name, _resized_convolution(module, name, *pair))
        elif isinstance(module, nn.Linear):
            inputs, outputs = pair
            _replace(model, name, nn.Linear(inputs, outputs, bias=module.bias is not None))


def match_normalisation(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Change normalisation layers to the sizes of their weights in a state dictionary, in place."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
            continue
        weight = state.get(f"{name}.weight")
        if weight is None or weight.numel() == module.num_features:
            continue
        resized = type(module)(
            weight.numel(),
            eps=module.eps,
            momentum=module.momentum,  # type: ignore[arg-type]
            affine=module.affine,
            track_running_stats=module.track_running_stats,
        )
        _replace(model, name, resized)


def _resized_convolution(
    conv: nn.Conv2d, name: str, in_channels: int, out_channels: int
) -> nn.Conv2d:
    depthwise = conv.groups == conv.in_channels and conv.groups > 1
    groups = in_channels if depthwise else conv.groups
    if in_channels % groups or out_channels % groups:
        raise CheckpointError(
            f"widths [{in_channels}, {out_channels}] of {name!r} do not fit its {groups} groups"
        )
    return nn.Conv2d(
        in_channels,
        out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)

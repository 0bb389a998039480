"""Which layers read the channels of a group, and where among their inputs."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from prune.layer_widths import output_width
from prune.tracing import makes_channels, trace

CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
# Along the second dimension of whatever has two.
BESIDE_EACH_OTHER = (torch.hstack, torch.column_stack)
# Concatenations of maps (N, C, H, W) along other dimensions join places, not channels.
CHANNEL_DIMENSIONS = (1, -1, -3)
FLATTENINGS = ("flatten", "reshape", "view")
TRANSPOSITIONS = (
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "mT",
)  # fmt: skip
SHAPES = ("size", "dim", "ndimension", "numel", "shape", "ndim")


@dataclass(frozen=True)
class Segment:
    """Adjacent channels of a value.

    Attributes:
        owner: the layer whose output channels they are; None for others, such as the image's
            or a ConvTranspose2d's.
        width: how many; None if unknown.
        flattened: the value may be a flattened map, with several places for each channel.
        scattered: after a flattening, the places of a channel may not be adjacent, or channels may
            have different numbers of places; the reason is a transposition before it or a
            concatenation of flattened maps.
    """

    owner: str | None
    width: int | None
    flattened: bool = False
    scattered: bool = False


@dataclass(frozen=True)
class Reader:
    """A layer that mixes the channels of others.

    Attributes:
        name: of the layer.
        channels: how many it reads, of all groups together; a linear layer behind a flattened
            map has several inputs a channel.
        first: place of the group's first channel among them; not 0 behind a concatenation. None
            if it is unknown, as behind a slice.
    """

    name: str
    channels: int
    first: int | None


def find_readers(
    model: nn.Module, groups: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], list[Reader]]:
    """Find the layers that read the output channels of every group.

    A depthwise convolution keeps channels separate: it is a member of their group, not a reader.

    Args:
        model: any module that ``torch.fx`` traces.
        groups: layers whose channels go together; a layer in none of them is a group of its own.

    Returns:
        Readers, in the order of the forward pass, by group, of every layer that it reaches.
    """
    graph = trace(model).graph
    modules = dict(model.named_modules())
    group_of = {name: members for members in groups for name in members}
    owners = channel_owners(graph, modules)
    readers: dict[tuple[str, ...], list[Reader]] = {}
    for node in graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        readers.setdefault(group_of.get(node.target, (node.target,)), [])
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            continue
        (source,) = node.all_input_nodes
        for owner, reader in _readings(str(node.target), layer, owners[source]):
            found = readers[group_of.get(owner, (owner,))]
            if reader not in found:
                found.append(reader)
    return readers


def _readings(
    name: str, layer: nn.Conv2d | nn.Linear, segments: Sequence[Segment]
) -> list[tuple[str, Reader]]:
    """Return (owner, how the layer reads its channels) of all that a layer reads."""
    read = segments_read(layer, segments)
    if read is None:
        inputs = input_width(layer)
        return [(s.owner, Reader(name, inputs, None)) for s in segments if s.owner is not None]
    widths = [segment.width or 0 for segment in read]
    places = itertools.accumulate(widths, initial=0)
    return [
        (segment.owner, Reader(name, sum(widths), first))
        for segment, first in zip(read, places, strict=False)
        if segment.owner is not None
    ]


def segments_read(
    layer: nn.Conv2d | nn.Linear, segments: Sequence[Segment]
) -> list[Segment] | None:
    """Return the segments of a layer's input with all their widths.

    Args:
        layer: that mixes channels.
        segments: of the value that it is given, as :func:`channel_owners` found them.

    Returns:
        Segments whose widths add up to the layer's inputs, or to a divisor of them for a linear
        layer behind a flattened map. None if the layer does not read these channels, or if the
        place of each among its inputs is unknown.
    """
    inputs, known = input_width(layer), known_width(segments)
    unknown = [segment for segment in segments if segment.width is None]
    if not unknown:
        places_known = known and not any(segment.scattered for segment in segments)
        flattened = isinstance(layer, nn.Linear) and places_known and inputs % known == 0
        return list(segments) if inputs == known or flattened else None
    rest = inputs - known
    # If no inputs remain, the unknown segments were added or concatenated as tokens. The remaining
    # inputs of a linear layer may be places of a flattened map.
    known_place = rest == 0 or (rest > 0 and len(unknown) == 1 and isinstance(layer, nn.Conv2d))
    if not known_place:
        return None
    return [replace(s, width=rest) if s.width is None else s for s in segments]


def input_width(layer: nn.Conv2d | nn.Linear) -> int:
    """Return the input channels of a convolution or linear layer."""
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features


def known_width(segments: Sequence[Segment]) -> int:
    """Return the channels of the segments of known width together."""
    return sum(segment.width or 0 for segment in segments)


def channel_owners(
    graph: fx.Graph, modules: Mapping[str, nn.Module]
) -> dict[fx.Node, list[Segment]]:
    """Return the segments of each node's value, in the order of the channels.

    The list is empty for a value that is no tensor, such as a size.
    """
    owners: dict[fx.Node, list[Segment]] = {}
    for node in graph.nodes:
        owners[node] = _owners_at(node, owners, modules)
    return owners


def _owners_at(
    node: fx.Node, owners: Mapping[fx.Node, list[Segment]], modules: Mapping[str, nn.Module]
) -> list[Segment]:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Conv2d | nn.Linear):
            return [Segment(str(node.target), output_width(module))]
        if makes_channels(module):
            return [Segment(None, getattr(module, "out_channels", None))]
    if not node.all_input_nodes:
        return [Segment(None, None)]
    asked = node.args[1] if node.target is getattr else node.target
    if node.op in ("call_function", "call_method") and asked in SHAPES:
        return []
    parts = _concatenated(node)
    if parts is not None:
        beside = [segment for part in parts for segment in owners[part]]
        return [replace(s, scattered=s.scattered or s.flattened) for s in beside]
    # If a map is multiplied with a one-channel mask, the map counts. In a sum of values with and
    # without an owner, those with an owner count.
    passed = max(
        (owners[source] for source in node.all_input_nodes),
        key=lambda found: (known_width(found), sum(segment.owner is not None for segment in found)),
    )
    name = _operation(node, modules)
    if name in FLATTENINGS:
        return [replace(segment, flattened=True) for segment in passed]
    return [replace(s, scattered=True) for s in passed] if name in TRANSPOSITIONS else passed


def _operation(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of what a node does to a value."""
    if node.op == "call_module":
        return "flatten" if isinstance(modules[str(node.target)], nn.Flatten) else ""
    if node.target is getattr:
        return str(node.args[1])
    return str(getattr(node.target, "__name__", node.target))


def _concatenated(node: fx.Node) -> list[fx.Node] | None:
    """Return the values whose channels a node concatenates; one may occur twice."""
    if node.target not in (*CONCATENATIONS, *BESIDE_EACH_OTHER):
        return None
    parts = node.args[0] if node.args else node.kwargs["tensors"]
    if node.target in BESIDE_EACH_OTHER:
        dimension: object = 1
    elif len(node.args) > 1:
        dimension = node.args[1]
    else:
        dimension = node.kwargs.get("dim", node.kwargs.get("axis", 0))
    if dimension not in CHANNEL_DIMENSIONS or not isinstance(parts, list | tuple):
        return None
    return [part for part in parts if isinstance(part, fx.Node)]

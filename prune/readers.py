"""Which layers read the channels of a group, and where among their inputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from prune.layer_widths import output_width
from prune.tracing import NORMALISATIONS, makes_channels, trace

CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
# Along the second dimension of whatever has two.
BESIDE_EACH_OTHER = (torch.hstack, torch.column_stack)
# Concatenations of maps (N, C, H, W) along other dimensions join places, not channels.
CHANNEL_DIMENSIONS = (1, -1, -3)
FLATTENINGS = ("flatten", "reshape", "view")
TRANSPOSITIONS = (
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "mT",
)  # fmt: skip
ReadingLayer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
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
    group_of = {name: members for members in groups for name in members}
    readers: dict[tuple[str, ...], list[Reader]] = {}
    for name, layer, segments in layer_inputs(model):
        if isinstance(layer, nn.ConvTranspose2d):
            continue
        readers.setdefault(group_of.get(name, (name,)), [])
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            continue
        read = segments_read(layer, segments)
        widths = [segment.width or 0 for segment in read or ()]
        first: int | None = 0 if read is not None else None
        for segment in segments if read is None else read:
            if segment.owner is not None:
                reader = Reader(name, input_width(layer) if read is None else sum(widths), first)
                found = readers[group_of.get(segment.owner, (segment.owner,))]
                if reader not in found:
                    found.append(reader)
            if first is not None:
                first += segment.width or 0
    return readers


def shared_inputs(model: nn.Module) -> list[tuple[str, ...]]:
    """Return layers that go together because a module that is called several times reads them.

    The module has one weight for each of its input channels, so all its calls have to read the same
    channels.

    Args:
        model: any module that ``torch.fx`` traces.
    """
    graph, modules = trace(model).graph, dict(model.named_modules())
    owners = channel_owners(graph, modules)
    calls: dict[str, list[list[Segment]]] = {}
    for node in graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (ReadingLayer, *NORMALISATIONS)):
            calls.setdefault(str(node.target), []).append(owners[node.all_input_nodes[0]])
    ties: list[tuple[str, ...]] = []
    for inputs in calls.values():
        if len({len(segments) for segments in inputs}) > 1:
            continue
        for same_place in zip(*inputs, strict=True):
            tied = {segment.owner for segment in same_place if segment.owner is not None}
            if len(tied) > 1 and len({segment.width for segment in same_place}) == 1:
                ties.append(tuple(sorted(tied)))
    return ties


def layer_inputs(
    model: nn.Module, graph: fx.Graph | None = None
) -> Iterator[tuple[str, ReadingLayer, list[Segment]]]:
    """Yield every call of a layer that may read cut channels: its name, itself, and its input.

    Args:
        model: any module that ``torch.fx`` traces.
        graph: of :func:`prune.tracing.trace`; None: the model is traced here.
    """
    graph = trace(model).graph if graph is None else graph
    modules = dict(model.named_modules())
    owners = channel_owners(graph, modules)
    for node in graph.nodes:
        layer = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, ReadingLayer):
            (source,) = node.all_input_nodes
            yield str(node.target), layer, owners[source]


def segments_read(layer: ReadingLayer, segments: Sequence[Segment]) -> list[Segment] | None:
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
    one_unknown = len(unknown) == 1 and not isinstance(layer, nn.Linear)
    known_place = rest == 0 or (rest > 0 and one_unknown)
    if not known_place:
        return None
    return [replace(s, width=rest) if s.width is None else s for s in segments]


def owners_read(layer: ReadingLayer, segments: Sequence[Segment]) -> tuple[tuple[str, ...], int]:
    """Return the layers whose channels a layer mixes, and how many other channels it mixes.

    Args:
        layer: a grouped convolution mixes none.
        segments: of the value that it is given.
    """
    if not isinstance(layer, nn.Linear) and layer.groups > 1:
        return (), 0
    owned = [segment for segment in segments if segment.owner is not None]
    read = segments_read(layer, segments)
    if read is not None:
        others = known_width([segment for segment in read if segment.owner is None])
    else:  # behind a slice, for example
        counted = known_width(owned)
        # A linear layer behind a flattened map has several inputs a channel.
        flattened = isinstance(layer, nn.Linear) and counted and input_width(layer) % counted == 0
        others = 0 if flattened or not counted else max(input_width(layer) - counted, 0)
    return tuple(segment.owner for segment in owned if segment.owner is not None), others


def input_width(layer: ReadingLayer) -> int:
    """Return the input channels of a convolution or linear layer."""
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


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
        module = modules[str(node.target)] if node.op == "call_module" else None
        operation = operation_name(node, modules)
        parts = _concatenated(node)
        if isinstance(module, nn.Conv2d | nn.Linear):
            found = [Segment(str(node.target), output_width(module))]
        elif module is not None and makes_channels(module):
            found = [Segment(None, getattr(module, "out_channels", None))]
        elif not node.all_input_nodes:
            found = [Segment(None, None)]
        elif operation in SHAPES:
            found = []
        elif parts is not None:
            beside = [segment for part in parts for segment in owners[part]]
            found = [replace(s, scattered=s.scattered or s.flattened) for s in beside]
        else:
            # If a map is multiplied with a one-channel mask, the map counts. In a sum of values
            # with and without an owner, those with an owner count.
            found = max(
                (owners[source] for source in node.all_input_nodes),
                key=lambda s: (known_width(s), sum(segment.owner is not None for segment in s)),
            )
            if operation in FLATTENINGS:
                found = [replace(segment, flattened=True) for segment in found]
            elif operation in TRANSPOSITIONS:
                found = [replace(segment, scattered=True) for segment in found]
        owners[node] = found
    return owners


def operation_name(node: fx.Node, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of the operator of a node, such as ``flatten``; empty for other modules."""
    if node.op == "call_module":
        return "flatten" if isinstance(modules[str(node.target)], nn.Flatten) else ""
    if node.op not in ("call_function", "call_method"):
        return ""
    asked = node.args[1] if node.target is getattr else node.target
    return str(getattr(asked, "__name__", asked))


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

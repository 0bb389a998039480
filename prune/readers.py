"""Which layers read the channels of a group, and where among their inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from prune.graph import makes_channels, trace
from prune.layers import output_width

CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)


@dataclass(frozen=True)
class Reader:
    """A layer that mixes the channels of others.

    Attributes:
        name: of the layer.
        channels: how many it reads, of all groups together; a linear layer behind a flattened
            map has several inputs a channel.
        first: place of the group's first channel among them; not 0 behind a concatenation.
    """

    name: str
    channels: int
    first: int


def find_readers(
    model: nn.Module, groups: Sequence[tuple[str, ...]]
) -> dict[tuple[str, ...], list[Reader]]:
    """Find the layers that read the output channels of every group.

    A depthwise convolution passes channels on one by one; it is a member of their group and no
    reader. What reads channels in a way that is not understood is left out.

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
        channels = full_width(owners[source], modules)
        inputs = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        if (
            channels == 0
            or inputs % channels
            or (inputs != channels and isinstance(layer, nn.Conv2d))
        ):
            continue
        first = 0
        for owner in owners[source]:
            found = readers[group_of.get(owner, (owner,))]
            reader = Reader(str(node.target), channels, first)
            if reader not in found:
                found.append(reader)
            first += output_width(modules[owner])
    return readers


def channel_owners(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[fx.Node, list[str]]:
    """Return the layers whose channels the value of each node has, in the order of its channels.

    Channels of another origin, such as the picture's or a ConvTranspose2d's, have no owner.
    """
    owners: dict[fx.Node, list[str]] = {}
    for node in graph.nodes:
        owners[node] = _owners_at(node, owners, modules)
    return owners


def full_width(owners: Sequence[str], modules: Mapping[str, nn.Module]) -> int:
    """Return the output channels of some layers together."""
    return sum(output_width(modules[name]) for name in owners)


def _owners_at(
    node: fx.Node, owners: Mapping[fx.Node, list[str]], modules: Mapping[str, nn.Module]
) -> list[str]:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Conv2d | nn.Linear):
            return [str(node.target)]
        if makes_channels(module):
            return []
    if node.target in CONCATENATIONS:
        return [owner for source in node.all_input_nodes for owner in owners[source]]
    # Of a map and the one-channel mask that it is multiplied with, the map.
    candidates = [owners[source] for source in node.all_input_nodes]
    return max(candidates, key=lambda found: full_width(found, modules), default=[])

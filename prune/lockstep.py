"""Evaluate two networks of the same graph; each value is computed once and dropped after use."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, fx, nn


class _Walker:
    """Evaluate nodes of a graph on demand; a value is dropped when all its users are computed."""

    def __init__(self, graph: fx.GraphModule, images: Tensor) -> None:
        self._nodes: dict[str, fx.Node] = {node.name: node for node in graph.graph.nodes}
        self._position = {node: index for index, node in enumerate(graph.graph.nodes)}
        self._computed: set[fx.Node] = set()
        self._interpreter = fx.Interpreter(graph, garbage_collect_values=False)
        self._placeholder = next(n for n in graph.graph.nodes if n.op == "placeholder")
        self._interpreter.env = {self._placeholder: images}

    def value(self, node: fx.Node) -> Tensor:
        """Return a node's value, computing what it needs first."""
        env = self._interpreter.env
        missing: set[fx.Node] = set()
        open_nodes = [node]
        while open_nodes:
            current = open_nodes.pop()
            if current not in env and current not in missing:
                missing.add(current)
                open_nodes.extend(current.all_input_nodes)
        self._computed -= missing
        for needed in sorted(missing, key=self._position.__getitem__):
            env[needed] = self._interpreter.run_node(needed)
            self._note(needed)
        result = env[node]
        assert isinstance(result, Tensor)
        return result

    def put(self, node: fx.Node, value: Tensor) -> None:
        """Take a value that was computed elsewhere from the node's present inputs.

        It is not taken if an input has been dropped, because the value may then be of another one.
        """
        env = self._interpreter.env
        if all(source in env for source in node.all_input_nodes):
            env[node] = value
            self._note(node)

    def _note(self, node: fx.Node) -> None:
        """Mark a node as computed, and drop the inputs that no other node needs."""
        self._computed.add(node)
        for source in node.all_input_nodes:
            # The images stay, because values are computed from them again.
            if source is not self._placeholder and self._computed.issuperset(source.users):
                del self._interpreter.env[source]

    def forget(self, nodes: Iterable[fx.Node]) -> None:
        """Drop the values of nodes and of all that depends on them."""
        open_nodes, found = list(nodes), set[fx.Node]()
        while open_nodes:
            current = open_nodes.pop()
            if current not in found:
                found.add(current)
                self._interpreter.env.pop(current, None)
                open_nodes.extend(current.users)
        self._computed -= found

    def node(self, name: str) -> fx.Node:
        """Return a node by its name."""
        return self._nodes[name]


class Lockstep:
    """A compact and a full-width network on the same images.

    Args:
        compact_graph: trace of the compact network; its layers may be changed between calls.
        full_graph: trace of the full-width network, with the same nodes.
        images: inputs (N, 3, H, W).
    """

    def __init__(
        self, compact_graph: fx.GraphModule, full_graph: fx.GraphModule, images: Tensor
    ) -> None:
        self.compact_graph, self.full_graph = compact_graph, full_graph
        self._compact = _Walker(compact_graph, images)
        self._full = _Walker(full_graph, images)
        self._calls = layer_calls(compact_graph)

    def layer_order(self) -> list[str]:
        """Return the convolutions and linear layers in the order in which to change them."""
        return layer_order(self._calls)

    def calls(self, layer: str) -> list[fx.Node]:
        """Return the nodes that call a layer."""
        return self._calls[layer]

    def compact_input(self, call: fx.Node) -> Tensor:
        """Return the input of a call in the compact network with its current layers."""
        (source,) = call.all_input_nodes
        return self._compact.value(source)

    def full_output(self, call: fx.Node) -> Tensor:
        """Return the output of the same call in the full-width network."""
        return self._full.value(self._full.node(call.name))

    def changed(self, layer: str, outputs: Sequence[Tensor] = ()) -> None:
        """Drop the former outputs of a changed layer and all values that depend on them.

        Args:
            layer: its name.
            outputs: what the changed layer gives for the inputs of its calls, in their order, if
                that is known; else it is computed when it is needed.
        """
        self._compact.forget(self._calls[layer])
        for call, output in zip(self._calls[layer], outputs, strict=False):
            self._compact.put(call, output)


def layer_calls(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Return the nodes that call each convolution and linear layer, by their last calls."""
    modules = dict(graph.named_modules())
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(
            modules[str(node.target)], nn.Conv2d | nn.Linear
        ):
            calls[str(node.target)] = [*calls.pop(str(node.target), []), node]
    return calls


def layer_order(calls: Mapping[str, Sequence[fx.Node]]) -> list[str]:
    """Return layers so that each one comes after all layers that its calls depend on.

    Two layers that are called in turns depend on each other: the one whose last call is earlier
    comes first.
    """
    layer_at = {call: name for name, nodes in calls.items() for call in nodes}
    upstream_at: dict[fx.Node, set[str]] = {}
    for node in next(iter(layer_at)).graph.nodes if layer_at else ():
        found = set[str]()
        for source in node.all_input_nodes:
            found |= upstream_at[source]
            found |= {layer_at[source]} if source in layer_at else set()
        upstream_at[node] = found
    upstream = {
        name: set[str]().union(*(upstream_at[call] for call in nodes))
        for name, nodes in calls.items()
    }
    waiting, order = list(calls), list[str]()
    while waiting:
        ready = next(
            (
                name
                for name in waiting
                if not any(o in upstream[name] and name not in upstream[o] for o in waiting)
            ),
            waiting[0],
        )
        waiting.remove(ready)
        order.append(ready)
    return order

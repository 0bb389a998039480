"""Walk two networks of the same graph, computing each value once and forgetting it when used up."""

from torch import Tensor, fx, nn


class _Walker:
    """Evaluate nodes of a graph on demand; a value is dropped when all its users are computed."""

    def __init__(self, graph: fx.GraphModule, pictures: Tensor) -> None:
        self._nodes: dict[str, fx.Node] = {node.name: node for node in graph.graph.nodes}
        self._position = {node: index for index, node in enumerate(graph.graph.nodes)}
        self._waiting = {node: len(node.users) for node in graph.graph.nodes}
        self._interpreter = fx.Interpreter(graph, garbage_collect_values=False)
        placeholder = next(node for node in graph.graph.nodes if node.op == "placeholder")
        self._interpreter.env = {placeholder: pictures}

    def value(self, node: fx.Node) -> Tensor:
        """Return a node's value, computing what it needs first."""
        env = self._interpreter.env
        for needed in self._missing(node):
            env[needed] = self._interpreter.run_node(needed)
            for source in needed.all_input_nodes:
                self._waiting[source] -= 1
                if self._waiting[source] == 0:
                    del env[source]
        result = env[node]
        assert isinstance(result, Tensor)
        return result

    def _missing(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes without a value that a node depends on, itself included, in order."""
        env = self._interpreter.env
        found: set[fx.Node] = set()
        open_nodes = [node]
        while open_nodes:
            current = open_nodes.pop()
            if current not in env and current not in found:
                found.add(current)
                open_nodes.extend(current.all_input_nodes)
        return sorted(found, key=self._position.__getitem__)

    def node(self, name: str) -> fx.Node:
        """Return a node by its name."""
        return self._nodes[name]


class Lockstep:
    """A compact and a full-width network on the same pictures.

    Args:
        compact_graph: trace of the compact network; its layers may be changed between calls.
        full_graph: trace of the full-width network, with the same nodes.
        pictures: inputs (N, 3, H, W).
    """

    def __init__(
        self, compact_graph: fx.GraphModule, full_graph: fx.GraphModule, pictures: Tensor
    ) -> None:
        self.compact_graph = compact_graph
        self._compact = _Walker(compact_graph, pictures)
        self._full = _Walker(full_graph, pictures)
        self._calls: dict[str, list[fx.Node]] = {}
        modules = dict(compact_graph.named_modules())
        for node in compact_graph.graph.nodes:
            if node.op == "call_module" and isinstance(
                modules[str(node.target)], nn.Conv2d | nn.Linear
            ):
                # A module that is called several times takes the place of its last call: by then
                # everything that its calls depend on is done.
                calls = self._calls.pop(str(node.target), [])
                self._calls[str(node.target)] = [*calls, node]

    def layer_order(self) -> list[str]:
        """Return the convolutions and linear layers in the order in which to change them."""
        return list(self._calls)

    def calls(self, layer: str) -> list[fx.Node]:
        """Return the nodes that call a layer."""
        return self._calls[layer]

    def compact_input(self, call: fx.Node) -> Tensor:
        """Return what a call is given in the compact network, as its layers are now."""
        (source,) = call.all_input_nodes
        return self._compact.value(source)

    def full_output(self, call: fx.Node) -> Tensor:
        """Return what the same call returns in the full-width network."""
        return self._full.value(self._full.node(call.name))

"""A dry run of a cut on a small input, before anything is removed.

The traced model runs three times at once: with zeros in the channels that a plan would remove, with
noise in them, and without them. The first two runs show where the removed channels are in a value.
The third one shows whether an operator gives, without the channels, what it gives with zeros in
them. Each layer starts all three from the same output, so the first operator that differs is the
one that does not support the cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from prune.layer_widths import Widths, channel_dimension, layer_widths
from prune.tracing import NORMALISATIONS, layers_behind, makes_channels, normalised_layers, trace
from reid_edge.core.errors import PruneError

TOLERANCE = 1e-4
# Zeros that an operator adds less to, such as the lower bound of a generalized mean, stay zeros.
NEGLIGIBLE = 1e-5
# A dimension, and marks of its indices that are removed.
Place = tuple[int, Tensor]
RESHAPINGS = ("view", "reshape", "unflatten", "flatten", "expand", "repeat")


@torch.no_grad()
def check_cut(
    model: nn.Module,
    widths: Widths,
    groups: Sequence[Sequence[str]],
    example: Tensor,
    graph: fx.GraphModule | None = None,
) -> None:
    """Check that all operators between the layers support a cut.

    Args:
        model: on the CPU, in evaluation mode; it is left as it was.
        widths: planned output channels by layer.
        groups: layers whose channels go together.
        example: input (2, 3, H, W), small is fine.
        graph: the trace of the model; None: it is traced here.

    Raises:
        PruneError: an operator mixes the channels of a cut layer (a mean over channels, a channel
            shuffle), turns zeros into other values that a layer reads, or has the number of
            channels as a constant; or a module is called several times with different channels.
            The message names operator, module and layer.
    """
    # Channels that the plan may remove, the same ones for all layers of a group.
    now, generator = layer_widths(model), torch.Generator().manual_seed(0)
    removed: dict[str, Tensor] = {}
    in_groups = {name for members in groups for name in members}
    for members in [*groups, *((name,) for name in now if name not in in_groups)]:
        count = now[members[0]] - widths.get(members[0], now[members[0]])
        if count > 0:
            lost = torch.zeros(now[members[0]], dtype=torch.bool)
            lost[torch.randperm(len(lost), generator=generator)[:count]] = True
            removed |= dict.fromkeys(members, lost)
    graph = trace(model) if graph is None else graph
    run = _DryRun(graph, removed, normalised_layers(model, graph.graph))
    for node in graph.graph.nodes:
        run.step(node, example)


class _DryRun:
    """The three runs, node by node.

    Args:
        graph: trace of the model.
        removed: marks (C,) of the removed channels, by layer.
        owners: the layer whose channels each normalisation normalises.
    """

    def __init__(
        self, graph: fx.GraphModule, removed: Mapping[str, Tensor], owners: Mapping[str, str]
    ) -> None:
        self._modules = dict(graph.named_modules())
        self._removed = dict(removed)
        for name, owner in owners.items():
            features = getattr(self._modules[name], "num_features", None)
            if owner in removed and features == len(removed[owner]):
                self._removed[name] = removed[owner]
        self._layers = set(removed)
        self._runs = [fx.Interpreter(graph) for _ in range(3)]
        self._zeros, self._noise, self._without = (run.env for run in self._runs)
        self._generator = torch.Generator().manual_seed(0)
        self._read: dict[str, Tensor] = {}
        # Nodes whose values have other channels, or other sizes, in the third run.
        self._touched: set[fx.Node] = set()

    def step(self, node: fx.Node, example: Tensor) -> None:
        """Evaluate a node in all runs, and check it."""
        module = self._modules[str(node.target)] if node.op == "call_module" else None
        if node.op == "placeholder":
            given = example if not self._zeros else node.args[0] if node.args else None
            values = given, given, given
        elif node.op == "output":
            return
        elif (module is not None and any(True for _ in module.parameters())) or isinstance(
            module, NORMALISATIONS
        ):
            values = self._layer(node, module)
        else:
            values = self._operator(node)
        for run, value in zip(self._runs, values, strict=True):
            # A copy, because a later operation may overwrite it.
            run.env[node] = value.clone() if isinstance(value, Tensor) else value
        if not (_equal(values[0], values[1]) and _equal(values[0], values[2])):
            self._touched.add(node)

    def _layer(self, node: fx.Node, module: nn.Module) -> tuple[Any, Any, Any]:
        """Evaluate a layer with weights: on all channels but the removed ones."""
        name, sources = str(node.target), node.all_input_nodes
        zeros = self._runs[0].run_node(node)
        if not sources or not isinstance(zeros, Tensor):
            return zeros, zeros, zeros
        source, dimension = sources[0], channel_dimension(module)
        differs: Tensor = self._zeros[source] != self._noise[source]
        marks = differs.movedim(dimension, 0).flatten(1).any(1)
        by_channel = makes_channels(module) or isinstance(module, NORMALISATIONS)
        by_channel = by_channel or getattr(module, "num_parameters", 1) > 1
        if by_channel and not torch.equal(self._read.setdefault(name, marks), marks):
            raise self._refusal(
                node,
                f"{name!r} is called several times, on channels that do not go together",
            )
        is_reader = makes_channels(module) and getattr(module, "groups", 1) == 1
        if is_reader and marks.any():
            if not self._is_zero(source):
                maker: fx.Node | None = source
                while maker is not None:
                    last = maker
                    inputs = [s for s in maker.all_input_nodes if s in self._touched]
                    maker = next((s for s in inputs if not self._is_zero(s)), None)
                problem = f"{self._name(last)} makes other values of zeros, which {name!r} reads"
                raise self._refusal(last, problem)
            given = self._zeros[source].clone()
            given.movedim(dimension, 0)[marks] = 0
            zeros = module(given)
        noise = zeros.clone()
        lost = self._removed.get(name)
        if lost is None and not is_reader and len(marks) == zeros.shape[dimension]:
            lost = marks
        if lost is None or not lost.any():
            return zeros, noise, zeros
        place = zeros.movedim(dimension, 0)
        if name in self._removed:
            place[lost] = 0
        noise.movedim(dimension, 0)[lost] = self._draw(place[lost])
        kept = (~lost).nonzero().flatten()
        return zeros, noise, zeros.index_select(dimension, kept)

    def _draw(self, like: Tensor) -> Tensor:
        """Return noise (channels, N, ...) that is large, and positive and negative in each channel.

        The means of two images have opposite signs, so that a ReLU hides none of the channels.
        """
        noise = 5 + 5 * torch.rand(like.shape, generator=self._generator)
        if noise.dim() > 2:
            noise.view(*noise.shape[:2], -1)[:, :, 2::3] *= -1
        noise[:, 1::2] *= -1
        return noise

    def _operator(self, node: fx.Node) -> tuple[Any, Any, Any]:
        """Evaluate an operator in all runs, and compare it without and with zeros."""
        touched = not self._touched.isdisjoint(node.all_input_nodes)
        found, random_state = [], torch.get_rng_state()
        for run in self._runs:
            try:
                found.append(run.run_node(node))
            except Exception as error:  # an operator may raise anything for a wrong size
                if not found:
                    raise
                raise self._refusal(node, self._reason(node)) from error
            finally:  # the runs draw the same numbers, and the caller's state stays
                torch.set_rng_state(random_state)
        if not touched:
            return found[0], found[1], found[2]
        zeros, spec = tree_flatten(found[0])
        noise, without = tree_flatten(found[1])[0], tree_flatten(found[2])[0]
        for index, (first, second, third) in enumerate(zip(zeros, noise, without, strict=False)):
            if not isinstance(first, Tensor):
                continue
            # A sum over channels has no removed ones: zeros add nothing to it.
            places = [_place(first, second), *map(self._place_of, node.all_input_nodes), None]
            for place in places:
                expected = first
                if place is not None:
                    dimension, marks = place
                    if first.dim() <= dimension or first.shape[dimension] != len(marks):
                        continue
                    expected = first.index_select(dimension, (~marks).nonzero().flatten())
                if _equal(third, expected, TOLERANCE):
                    break
            else:
                raise self._refusal(node, self._reason(node))
            if place is places[0] and place is not None:
                continue
            noise[index] = first.clone()
            if place is not None:
                # Zeros hide the noise, as in relu(-x): it is needed behind this operator.
                lost = first.movedim(dimension, 0)[marks]
                noise[index].movedim(dimension, 0)[marks] = self._draw(lost).to(first.dtype)
        return found[0], tree_unflatten(noise, spec), found[2]

    def _place_of(self, node: fx.Node) -> Place | None:
        zeros, noise = self._zeros[node], self._noise[node]
        both = isinstance(zeros, Tensor) and isinstance(noise, Tensor)
        return _place(zeros, noise) if both else None

    def _is_zero(self, node: fx.Node) -> bool:
        """Tell whether a value is zero in its removed channels, in the first run."""
        place = self._place_of(node)
        if place is None:
            return True
        dimension, marks = place
        zeros = self._zeros[node].double().abs()
        return bool(zeros.movedim(dimension, 0)[marks].max() <= NEGLIGIBLE * zeros.max())

    def _name(self, node: fx.Node) -> str:
        """Return an operator's name, and the module whose forward pass calls it."""
        if node.op == "call_module":
            name = str(node.target)
            return f"{name!r} ({type(self._modules[name]).__name__})"
        called = getattr(node.target, "__name__", node.target)
        modules = [name for name in node.meta.get("nn_module_stack", ()) if name]
        return f"{called!r}" + (f" in {modules[-1]!r}" if modules else "")

    def _reason(self, node: fx.Node) -> str:
        name = str(getattr(node.target, "__name__", node.target))
        if name in RESHAPINGS:
            return (
                f"{self._name(node)} spreads channels over several dimensions, as a channel "
                "shuffle does, or has their number as a constant (write -1 or x.size(1))"
            )
        return f"{self._name(node)} does not treat channels one by one"

    def _refusal(self, node: fx.Node, problem: str) -> PruneError:
        # Another call of the same module may be the one that reads the cut layer.
        calls = [n for n in node.graph.nodes if n.op == "call_module" and n.target == node.target]
        layers = [name for call in (node, *calls) for name in layers_behind(call, self._modules)]
        touched = next((name for name in layers if name in self._layers), str(node.target))
        return PruneError(
            f"{problem}, so the channels of {touched!r} cannot be cut; leave the layer untouched"
        )


def _place(zeros: Tensor, noise: Tensor) -> Place | None:
    """Return where two values differ: along the dimension with the fewest indices that do.

    None if nothing differs, or if something differs at all indices of every dimension. The first
    dimension is that of the images.
    """
    if zeros.shape != noise.shape:
        return None
    differs = zeros != noise
    if not differs.any():
        return None
    marks = {
        dimension: differs.movedim(dimension, 0).flatten(1).any(1)
        for dimension in range(1, zeros.dim())
    }
    shares = {dimension: int(found.sum()) / len(found) for dimension, found in marks.items()}
    narrowest = min(shares, key=shares.__getitem__, default=0)
    return (narrowest, marks[narrowest]) if 0 < shares.get(narrowest, 0) < 1 else None


def _equal(one: object, other: object, tolerance: float = 0.0) -> bool:
    """Tell whether two values, which may hold tensors, are equal."""
    pairs = zip(tree_flatten(one)[0], tree_flatten(other)[0], strict=True)
    for a, b in pairs:
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            if a != b:
                return False
        elif a.shape != b.shape:
            return False
        elif not torch.equal(a, b):
            if tolerance == 0:
                return False
            limit = tolerance * b.double().abs().max()
            if not (a.double() - b.double()).abs().max() <= limit:
                return False
    return True

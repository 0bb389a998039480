"""Everything that touches NNI: dependency groups, masks, surgery.

NNI 3.0 is archived. This module alone holds the workarounds for what no longer works on today's
PyTorch, each with its reason.
"""

import contextlib
import io
import itertools
import logging
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx, nn

from prune.layer_widths import Widths, layer_widths
from prune.readers import shared_inputs
from prune.supported import check_on_cpu
from prune.tracing import normalised_layers, trace
from reid_edge.core.cost import conv_and_linear_layers
from reid_edge.core.errors import PruneError, reason_of
from reid_edge.core.library_warnings import log_warnings
from reid_edge.core.modes import evaluating

Masks = dict[str, dict[str, Tensor]]

SURGERY_BATCH = 2


@dataclass(frozen=True)
class Masked:
    """A model whose surplus channels are masked.

    Attributes:
        masks: NNI's masks, by layer and target.
        kept: indices of the channels that stay (sorted), by layer.
        output: the masked model's output on the check input.
    """

    masks: Masks
    kept: dict[str, Tensor]
    output: object


def _import_nni() -> None:
    """Import NNI without PyTorch Lightning.

    NNI wants Lightning for trainings of its own alone, and works where it is missing. With
    TorchMetrics and the compiler behind it, it takes three times as long to import as NNI does.
    """
    if "nni.compression" in sys.modules or "pytorch_lightning" in sys.modules:
        import nni.compression
    else:
        sys.modules["pytorch_lightning"] = None  # type: ignore[assignment] # "no such module"
        try:
            import nni.compression  # noqa: F401
        finally:
            del sys.modules["pytorch_lightning"]


@contextlib.contextmanager
def _quiet_and_seeded() -> Iterator[None]:
    """Silence NNI's prints, and keep its random probes from changing our random state."""
    logger = logging.getLogger("nni")
    shape_logger = logging.getLogger("Shape_Dependency")
    levels = logger.level, shape_logger.level
    sink = io.StringIO()
    try:
        with (
            torch.random.fork_rng(),
            contextlib.redirect_stdout(sink),
            warnings.catch_warnings(),
        ):
            log_warnings()
            torch.manual_seed(0)
            _import_nni()  # which resets the logger's level
            logger.setLevel(logging.ERROR)
            shape_logger.setLevel(logging.ERROR)
            yield
    finally:
        logger.setLevel(levels[0])
        shape_logger.setLevel(levels[1])


class _Traced:
    """What NNI reads of a traced model: its graph and the types of its modules.

    ``torch.jit.trace`` scripts each module, which takes as long as all the rest, and NNI calls it
    two times, with PyTorch's check four times.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._model = model
        tracing: Any = torch.jit._trace
        names = {module: f"__module.{name}" for name, module in model.named_modules() if name}

        def forward(images: Tensor, *weights: Tensor) -> object:
            del weights  # inputs of the graph, so that they are no constants of it
            return model(images)

        inputs = (example, *model.parameters(), *model.buffers())
        former, tracing._trace_module_map = tracing._trace_module_map, {model: "__module", **names}
        try:
            self.graph, _ = tracing._get_trace_graph(forward, inputs, strict=False)
        finally:
            tracing._trace_module_map = former

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        for name, module in self._model.named_modules():
            yield name, SimpleNamespace(original_name=type(module).__name__)


def find_groups(model: nn.Module, example: Tensor) -> list[tuple[str, ...]]:
    """Find the layers whose output channels have to be removed together.

    Args:
        model: any module without scripted parts that takes one tensor.
        example: an input (N, 3, H, W).

    Returns:
        Groups of at least two layer names, each sorted, in a fixed order.

    Raises:
        PruneError: the model's forward pass needs more than images or cannot be traced, or it is
            not on the CPU.
    """
    _import_nni()
    from nni.common.graph_utils import TorchModuleGraph
    from nni.compression.utils.shape_dependency import ChannelDependency

    class EveryNodeOnce(ChannelDependency):  # type: ignore[misc]
        def __init__(self, traced: _Traced) -> None:
            # What NNI's constructors do, which take a scripted module only and inline it.
            graph = TorchModuleGraph.__new__(TorchModuleGraph)
            graph.trace, graph.global_count, graph.reused_module = traced, 0, set()
            graph.name_to_node, graph.input_to_node, graph.output_to_node = graph._build_graph()
            graph._extract_auxiliary_info()
            self.model, self.graph = model, graph
            self.dependency: dict[str, set[str]] = {}
            self.target_types = ["Conv2d", "Linear", "ConvTranspose2d", "Embedding"]
            self.build_dependency()

        def _depthwise_get_parent(self, node: Any) -> list[str]:
            # NNI visits every path; a few channel shuffles make their number explode.
            waiting, seen = [node], {node}
            found: list[Any] = []
            while waiting:
                for name in self.graph.find_predecessors(waiting.pop().unique_name):
                    parent = self.graph.name_to_node[name]
                    if parent not in seen:
                        seen.add(parent)
                        is_layer = parent.op_type in ("Conv2d", "ConvTranspose2d", "Linear")
                        (found if is_layer else waiting).append(parent)
            return [layer.name for layer in found]

    check_on_cpu(model, example)
    with evaluating(model), _quiet_and_seeded():
        try:
            traced = _Traced(model, example)
        except Exception as error:  # a forward pass may raise anything
            trace(model)  # raises a clearer error if the model cannot be traced at all
            raise PruneError(
                f"{type(model).__name__} cannot be traced by torch.jit ({reason_of(error)}): "
                "pruning needs a forward pass from one tensor to tensors, without scripted modules"
            ) from error
        dependency = EveryNodeOnce(traced)
        dependency.build_dependency()  # finds dependencies through a third layer, too
    group_of = {name: i for i, names in enumerate(dependency.dependency_sets) for name in names}
    # NNI takes every call of a module for a layer of its own.
    numbers = itertools.count(len(dependency.dependency_sets))
    for tied in shared_inputs(model):
        joined = {group_of.setdefault(name, next(numbers)) for name in tied}
        group_of = {n: min(joined) if group in joined else group for n, group in group_of.items()}
    members: dict[int, list[str]] = defaultdict(list)
    for name in conv_and_linear_layers(model):
        if name in group_of:
            members[group_of[name]].append(name)
    now = layer_widths(model)
    for names in members.values():
        # A mask of one channel multiplies all channels of the others, so it is not cut with them.
        wide = [name for name in names if now[name] > 1]
        names[:] = wide or names
    return sorted(tuple(sorted(names)) for names in members.values() if len(names) > 1)


def mask_channels(
    model: nn.Module,
    *,
    example: Tensor,
    check_input: Tensor,
    widths: Widths,
    scores: Mapping[str, Tensor],
    graph: fx.Graph | None = None,
) -> Masked:
    """Mask the channels with the lowest scores until every layer has its planned width.

    The model is left as it was. BatchNorm outputs of masked channels are masked too: otherwise a
    masked channel would still give relu(beta), which the surgery removes.

    Args:
        model: the model to prune.
        example: an input (N, 3, H, W), small is fine.
        check_input: an input (N, 3, H, W) on which the masked model's output is recorded.
        widths: planned output channels by layer; layers that are not named stay as they are.
        scores: of every channel (C,), by layer that is cut; equal within a group.
        graph: the trace of the model; None: it is traced here.

    Raises:
        PruneError: the masks keep another number of channels than planned.
    """
    configs = _pruning_config(model, widths, graph)
    with evaluating(model):
        with _quiet_and_seeded():
            from nni.compression.base.setting import PruningSetting
            from nni.compression.pruning import L2NormPruner

            class ScoredPruner(L2NormPruner):  # type: ignore[misc]
                def _calculate_metrics(self, data: Any) -> Any:
                    # NNI expects the scores in the shapes of its own norms.
                    metrics = super()._calculate_metrics(data)
                    for name, targets in metrics.items():
                        targets["weight"] = scores[name].reshape(targets["weight"].shape)
                    return metrics

            # NNI does not mask InstanceNorm by default.
            PruningSetting.register("InstanceNorm2d", PruningSetting.default_setting)
            pruner = ScoredPruner(model, configs)
        try:
            with _quiet_and_seeded(), torch.no_grad():
                pruner.track_forward(example)
                _, raw_masks = pruner.compress()
                output = model.eval()(check_input)  # NNI's wrappers too
        finally:
            pruner.unwrap_model()
    masks = {
        name: {target: mask for target, mask in targets.items() if mask is not None}
        for name, targets in raw_masks.items()
    }
    kept = {
        name: masks[name]["weight"].flatten(1).any(1).nonzero().flatten()
        if name in masks
        else torch.arange(width)
        for name, width in layer_widths(model).items()
    }
    for name, width in widths.items():
        if len(kept[name]) != width:
            raise PruneError(
                f"masks keep {len(kept[name])} channels of {name!r} where {width} were planned; "
                "is it tied to a layer that the plan leaves alone?"
            )
    return Masked(masks, kept, output)


def _pruning_config(
    model: nn.Module, widths: Widths, graph: fx.Graph | None
) -> list[dict[str, Any]]:
    """Return NNI's configuration: the share to remove of each layer, and the outputs to mask."""
    now = layer_widths(model)
    cut = [name for name in now if widths.get(name, now[name]) < now[name]]
    # NNI takes milliseconds for each configuration, however many layers it names.
    by_ratio: dict[float, list[str]] = defaultdict(list)
    for name in cut:
        # NNI removes int(n * ratio) channels. Half a channel more makes sure that rounding does not
        # remove one channel too few.
        by_ratio[min((now[name] - widths[name] + 0.5) / now[name], 1 - 1e-9)].append(name)
    configs: list[dict[str, Any]] = [
        {"op_names": names, "sparse_ratio": ratio} for ratio, names in by_ratio.items()
    ]
    for normalisation, owner in normalised_layers(model, graph).items():
        if owner in cut:
            follows = {
                "align": {"module_name": owner, "target_name": "weight", "dims": [0]},
                "granularity": "per_channel",
                "apply_method": "mul",
            }
            configs.append(
                {
                    "op_names": [normalisation],
                    "target_names": ["_output_"],
                    "target_settings": {"_output_": follows},
                }
            )
    return configs


def remove_masked(
    model: nn.Module,
    masks: Mapping[str, Mapping[str, Tensor]],
    example: Tensor,
    graph: fx.GraphModule | None = None,
) -> None:
    """Remove the masked channels from a model, in place, with NNI's ``ModelSpeedup``.

    Args:
        model: the model that was masked, unwrapped.
        masks: what :func:`mask_channels` found.
        example: an input (N, 3, H, W). The surgery's cost grows with its size, its result does
            not depend on it: a small one is best.
        graph: the trace of the model, which shares its modules; None: it is traced here.

    Raises:
        PruneError: NNI cannot take this model apart; the message names the layer if NNI does.
    """
    silent = logging.getLogger("prune.nni_speedup")
    silent.setLevel(logging.CRITICAL)
    plain = {name: dict(targets) for name, targets in masks.items()}
    # The surgery uses gradients to find values that nothing depends on.
    with (
        _replaced_under_all_names(model),
        _quiet_and_seeded(),
        _without_statistics(),
        torch.enable_grad(),
    ):
        from nni.compression.speedup import ModelSpeedup
        from nni.compression.speedup.replacement import replace_module
        from nni.compression.speedup.replacer import DefaultReplacer

        class Speedup(ModelSpeedup):  # type: ignore[misc]
            # The next two changes are for layers of one channel, such as the hidden one of x0.25's
            # gates.
            def tensor_propagate_check(self, obj: Tensor) -> bool:
                # NNI expects more values than images here, so it ignores a single channel.
                batch: int = self.batch_size
                return obj.numel() >= batch and obj.numel() % batch == 0

            def fix_mask_conflict(self) -> None:
                # NNI mistakes a layer of one channel for a depthwise one and ties it to its
                # neighbours. Our masks have no conflicts: groups share masks, widths are checked.
                return

            def speedup_model(self) -> nn.Module:
                # NNI's own, without the file in which it keeps the weights that it overwrites.
                weights = {n: value.clone() for n, value in self.graph_module.state_dict().items()}
                training = self.graph_module.training
                self.graph_module.train(False)
                self.initialize_propagate(self.dummy_input)
                self.propagate_originally()
                self.initialize_update_sparsity()
                self.update_direct_sparsity()
                self.update_indirect_sparsity()
                self.graph_module.load_state_dict(weights)
                self.graph_module.train(training)
                self.replace_compressed_modules()
                bound: nn.Module = self.bound_model
                return bound

        try:
            # NNI's own tracer does not run on torch >= 2.1, so the graph is always given.
            speedup = Speedup(
                model,
                example,
                plain,
                batch_size=SURGERY_BATCH,
                graph_module=trace(model) if graph is None else graph,
                logger=silent,
            )
            # A customised replacer would come before NNI's, which replaces every module again.
            speedup.replacers = [DefaultReplacer({**replace_module, "Conv2d": _replace_conv})]
            speedup.speedup_model()
        except PruneError:
            raise
        except Exception as error:  # NNI's own, such as EmptyLayerError, have no common base
            raise PruneError(f"NNI's surgery failed: {reason_of(error)}") from error


@contextlib.contextmanager
def _without_statistics() -> Iterator[None]:
    """Leave out the sparsities that NNI computes for its log lines, which are silenced."""
    from nni.compression.speedup import model_speedup

    former = model_speedup.sparsity_stats
    model_speedup.sparsity_stats = lambda _: ""
    try:
        yield
    finally:
        model_speedup.sparsity_stats = former


def _replace_conv(layer: nn.Module, masks: Any) -> nn.Module:
    """Replace a convolution as NNI does; a depthwise one in one step, not channel by channel."""
    from nni.compression.speedup.replacement import convert_to_coarse_mask, replace_conv2d

    assert isinstance(layer, nn.Conv2d)
    inputs, output, _ = masks
    _, kept = convert_to_coarse_mask(output, 1)
    if not layer.in_channels == layer.out_channels == layer.groups > 1 or not torch.equal(
        convert_to_coarse_mask(inputs[0], 1)[1], kept
    ):
        made: nn.Module = replace_conv2d(layer, masks)
        return made
    narrow = nn.Conv2d(
        len(kept),
        len(kept),
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=len(kept),
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    narrow.weight.copy_(layer.weight[kept])
    if narrow.bias is not None and layer.bias is not None:
        narrow.bias.copy_(layer.bias[kept])
    return narrow


@contextlib.contextmanager
def _replaced_under_all_names(model: nn.Module) -> Iterator[None]:
    """Put a module that replaces another in this context under all names of the other.

    NNI replaces a layer only under the name in its trace. The forward pass may call the layer by
    another name.
    """
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[module].append(name)
    yield
    for former, aliases in names.items():
        if len(aliases) == 1:
            continue
        found = [model.get_submodule(name) for name in aliases]
        made = next((module for module in found if module is not former), None)
        for name in aliases if made is not None else ():
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, made)

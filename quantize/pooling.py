"""Pooling before a linear layer, kept in float.

PyTorch's int8 pooling keeps the range of its input. The mean over a map varies much less than the
map, so it would use only a few of the 256 levels. FX leaves modules that it does not know in float:
it converts their input to float and their output to int8 with its own range.
"""

from torch import Tensor, fx, nn
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig

# Operations that may be between the pooling and the linear layer.
RESHAPING = {"flatten", "reshape", "view", "squeeze"}
PASSING = (nn.Flatten, nn.Identity, nn.Dropout)


class FloatPooling(nn.Module):
    """A pooling layer that quantization leaves in float."""

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, features: Tensor) -> Tensor:
        """Return the pooled map of features (N, C, H, W)."""
        pooled: Tensor = self.pooling(features)
        return pooled


def keep_pooling_in_float(graph: fx.GraphModule) -> None:
    """Wrap the poolings that linear layers read, in place."""
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        pooling = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(pooling, nn.AdaptiveAvgPool2d) and _feeds_linear(node, modules):
            graph.set_submodule(str(node.target), FloatPooling(pooling))


def prepare_custom_config() -> PrepareCustomConfig:
    """Return the configuration with which ``prepare_fx`` does not trace wrapped poolings."""
    return PrepareCustomConfig().set_non_traceable_module_classes([FloatPooling])


def _feeds_linear(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    for user in node.users:
        if user.op == "call_module":
            module = modules[str(user.target)]
            passes = isinstance(module, PASSING) and _feeds_linear(user, modules)
            found = isinstance(module, nn.Linear) or passes
        else:
            name = str(getattr(user.target, "__name__", user.target))
            found = name in RESHAPING and _feeds_linear(user, modules)
        if found:
            return True
    return False

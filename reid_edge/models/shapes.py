"""Build and run a model for its shapes alone."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reid_edge.models.architecture import Architecture
from reid_edge.models.registry import build_model

FILLING = (Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_)


class _SkipInitialisation(TorchFunctionMode):
    """Ignore the functions that draw or set weights."""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in FILLING or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_shapes(
    architecture: str | Architecture, *, num_classes: int = 1, embedding_dim: int | None = None
) -> nn.Module:
    """Build an architecture in evaluation mode without initialising its weights.

    Their values are whatever the memory holds, and no random number is drawn. This takes a fraction
    of the time of drawing weights. (On the device ``meta`` PyTorch imports its compiler first.)

    Args:
        architecture: a registered name, or a declaration.
        num_classes: identities of the classifier.
        embedding_dim: size of the embedding; None: the architecture's own.

    Raises:
        ModelError: the name is not known.
    """
    with _SkipInitialisation():
        model = build_model(architecture, num_classes=num_classes, embedding_dim=embedding_dim)
    return model.eval()


class _SkipInstanceNorm(TorchFunctionMode):
    """Return what instance normalisation is given, which refuses a batch without an image."""

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.instance_norm:
            return func(*args, **(kwargs or {}))
        if args[0].shape[2:].numel() == 1:
            raise ValueError("instance normalisation of a single pixel")
        return args[0]


@torch.no_grad()
def run_shapes(model: nn.Module, height: int, width: int) -> Tensor:
    """Run a model on a batch without an image, which costs nothing.

    Returns:
        What the model returns: for embeddings (0, D).

    Raises:
        RuntimeError, ValueError: the input is too small.
    """
    with _SkipInstanceNorm():
        embeddings: Tensor = model(torch.zeros(0, 3, height, width))
    return embeddings

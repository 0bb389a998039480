"""How large and how costly an architecture is."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reid_edge.core.errors import ModelError
from reid_edge.models.registry import build_model

CLASSIFIER = "classifier."


@dataclass(frozen=True)
class Complexity:
    """Size and cost of an architecture.

    Attributes:
        parameters: numbers in its weights, each counted once, without the classifier.
        macs: multiplications with addition of convolutions and linear layers, for one image.
        embedding_dim: size of the embedding.
    """

    parameters: int
    macs: int
    embedding_dim: int


def measure_complexity(name: str, height: int, width: int) -> Complexity:
    """Measure an architecture without computing anything.

    Layers that are called several times, such as OSNet's gate, are counted at every call.

    Args:
        name: a key of ``MODELS``.
        height: input rows.
        width: input columns.

    Raises:
        ModelError: the name is not known, or the input is too small.
    """
    if height < 1 or width < 1:
        raise ModelError(f"an input of {height} x {width} has no pixels")
    # On this device tensors have shapes and no values.
    with torch.device("meta"):
        model = build_model(name).eval()
        image = torch.zeros(1, 3, height, width)
    macs: list[int] = []
    hooks = [
        module.register_forward_hook(lambda *call: macs.append(_count(*call)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    try:
        with torch.no_grad():
            embedding = model(image)
    except (RuntimeError, ValueError) as error:  # the second is instance normalisation's
        raise ModelError(f"{name} cannot take an input of {height} x {width}") from error
    finally:
        for hook in hooks:
            hook.remove()
    parameters = sum(
        parameter.numel()
        for key, parameter in model.named_parameters()
        if not key.startswith(CLASSIFIER)
    )
    return Complexity(parameters, sum(macs), embedding.shape[-1])


def _count(module: nn.Module, _inputs: Any, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        per_value = module.in_channels // module.groups * math.prod(module.kernel_size)
        return output.numel() * per_value
    return output.numel() * int(module.in_features)  # type: ignore[arg-type]

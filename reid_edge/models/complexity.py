"""How large and how costly an architecture is."""

from dataclasses import dataclass

import torch

from reid_edge.core.cost import called_parameters, conv_and_linear_layers, counted_macs
from reid_edge.core.errors import ModelError
from reid_edge.models.registry import build_model


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
        name: a key of ``ARCHITECTURES``.
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
    try:
        with torch.no_grad(), counted_macs(conv_and_linear_layers(model).items()) as calls:
            embedding = model(image)
    except (RuntimeError, ValueError) as error:  # the second is instance normalisation's
        raise ModelError(f"{name} cannot take an input of {height} x {width}") from error
    return Complexity(
        parameters=called_parameters(model, {layer for layer, _ in calls}),
        macs=sum(macs for _, macs in calls),
        embedding_dim=embedding.shape[-1],
    )

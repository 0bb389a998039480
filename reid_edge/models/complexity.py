"""How large and how costly an architecture is."""

from dataclasses import dataclass

import torch
from torch import nn

from reid_edge.core.cost import called_parameters, conv_and_linear_layers, counted_macs
from reid_edge.core.errors import ModelError
from reid_edge.models.architecture import Architecture
from reid_edge.models.shapes import build_shapes


@dataclass(frozen=True)
class Complexity:
    """Size and cost of an architecture.

    Attributes:
        parameters: number of weights, each counted once, without the classifier.
        macs: multiply-accumulates of convolutions and linear layers, for one image.
        embedding_dim: size of the embedding.
    """

    parameters: int
    macs: int
    embedding_dim: int


def measure_complexity(architecture: str | Architecture, height: int, width: int) -> Complexity:
    """Count parameters and multiply-accumulates of an architecture.

    A layer that is called several times, such as OSNet's gate, counts at every call.

    Args:
        architecture: a registered name, or a declaration.
        height: input rows.
        width: input columns.

    Raises:
        ModelError: the name is not known, or the input is too small.
    """
    if height < 1 or width < 1:
        raise ModelError(f"an input of {height} x {width} has no pixels")
    model = build_shapes(architecture)
    # A batch without an image costs nothing, but instance normalisation refuses it. With an image
    # the weights need values: computing with denormal numbers is slow.
    needs_image = any(isinstance(module, nn.InstanceNorm2d) for module in model.modules())
    if needs_image:
        for value in model.state_dict().values():
            value.zero_()
    images = torch.zeros(1 if needs_image else 0, 3, height, width)
    try:
        with torch.no_grad(), counted_macs(conv_and_linear_layers(model).items()) as calls:
            embeddings = model(images)
    except (RuntimeError, ValueError) as error:  # instance normalisation raises a ValueError
        name = architecture if isinstance(architecture, str) else architecture.name
        raise ModelError(f"{name} cannot take an input of {height} x {width}") from error
    return Complexity(
        parameters=called_parameters(model, {layer for layer, _ in calls}),
        macs=sum(macs for _, macs in calls),
        embedding_dim=embeddings.shape[-1],
    )

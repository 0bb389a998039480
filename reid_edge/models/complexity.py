"""How large and how costly an architecture is."""

import json
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import ModelError
from reid_edge.models.architecture import Architecture

# Counts at one size, made by ``python -m docs.generate``: counting takes seconds.
COUNTED = Path(__file__).with_name("complexity.json")
COUNTED_SIZE = (256, 128)


@dataclass(frozen=True)
class Complexity:
    """Size and cost of an architecture.

    Attributes:
        parameters: number of weights, each counted once, without the classifier.
        macs: multiply-accumulates for one image.
        embedding_dim: size of the embedding.
    """

    parameters: int
    macs: int
    embedding_dim: int


def counted_complexity(height: int, width: int) -> dict[str, Complexity]:
    """Return the counts that the package has for an input size, by architecture.

    Args:
        height: input rows.
        width: input columns.
    """
    if (height, width) != COUNTED_SIZE:
        return {}
    counts = json.loads(COUNTED.read_text(encoding="utf-8"))
    return {name: Complexity(**values) for name, values in counts.items()}


def measure_complexity(architecture: str | Architecture, height: int, width: int) -> Complexity:
    """Count parameters and multiply-accumulates of an architecture.

    A layer that is called several times, such as OSNet's gate, counts at every call.

    Args:
        architecture: a registered name, or a declaration.
        height: input rows.
        width: input columns.

    Raises:
        ModelError: the name is not known, the input is too small, or an operator multiplies that
            cannot be counted.
    """
    import torch  # takes seconds, and counts that are there need none of it

    from reid_edge.core.cost import called_layers, called_parameters
    from reid_edge.core.macs import counting_macs
    from reid_edge.models.shapes import build_shapes, run_shapes

    if height < 1 or width < 1:
        raise ModelError(f"an input of {height} x {width} has no pixels")
    model = build_shapes(architecture)
    try:
        with counting_macs(model.named_modules()) as counter:
            embeddings = run_shapes(model, height, width)
        if not counter.exact:
            with torch.no_grad(), counting_macs(model.named_modules()) as counter:
                model(torch.zeros(1, 3, height, width))
    except ModelError:
        raise
    except (RuntimeError, ValueError) as error:
        name = architecture if isinstance(architecture, str) else architecture.name
        raise ModelError(f"{name} cannot take an input of {height} x {width}") from error
    return Complexity(
        parameters=called_parameters(model, called_layers(model, counter)),
        macs=sum(macs for _, macs in counter.calls),
        embedding_dim=embeddings.shape[-1],
    )

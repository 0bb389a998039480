"""What an architecture declares, and what every architecture has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names can be checked before PyTorch, which takes seconds, is imported
    from torch import nn

CLASSIFIER = "classifier"
# A BatchNorm between embedding and classifier (BNNeck).
NECK = "bottleneck"
# The layers behind the pooling; "fc" is OSNet's embedding layer and "embedding" is ResNet's.
HEAD = (CLASSIFIER, "fc", "embedding", NECK)
# The weights whose rows are the values of an embedding.
EMBEDDING_WEIGHTS = ("fc.0.weight", "embedding.0.weight")


@dataclass(frozen=True)
class Architecture:
    """An architecture that can be trained, pruned, quantized and exported.

    A built model returns (logits (N, num_classes), embeddings (N, D)) in training mode and the
    embeddings alone in evaluation mode. It has a linear layer ``classifier``; other layers behind
    the pooling have a name of ``HEAD``.

    Attributes:
        name: in settings and checkpoints.
        family: architectures of one family have the same layer names.
        description: one line.
        build: takes ``num_classes`` and, optionally, ``embedding_dim``; returns a model with
            random weights.
        embedding_dim: size of the embedding by default.
        input_size: (height, width) in pixels that it was published for.
        published_by: other programs that build it under the same name with the same weights.
        bnneck: name of the same architecture with a BNNeck, if it is another one.
        stride_2: name of the same architecture with a last stride of 2, if the weights of both
            have the same names and shapes.
        fastreid: name of the form that FastReID builds, if it is another one.
    """

    name: str
    family: str
    description: str
    build: Callable[..., nn.Module]
    embedding_dim: int = 512
    input_size: tuple[int, int] = (256, 128)
    published_by: tuple[str, ...] = ()
    bnneck: str | None = None
    stride_2: str | None = None
    fastreid: str | None = None

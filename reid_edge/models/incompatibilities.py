"""Where a model computes something else than the program that its weights are from.

Weights fit or do not; what has no weights (a stride, a padding, a pooling), and what is left out,
goes unnoticed. A training makes up for it; a model that is taken as it is gives other embeddings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.models.input_statistics import INPUT_STATISTICS
from reid_edge.models.registry import MODELS, build_model
from reid_edge.models.resize import differing_form
from reid_edge.models.resnet import ResNet

# Of FastReID; averaging, which is all that there is here, has no tensors.
POOLING = "heads.pool_layer."
# What comes behind the embedding. Of layumi's "classifier", "add_block" is the embedding.
BEHIND_EMBEDDING = ("classifier.", "heads.classifier.", "fc.weight", "fc.bias")
LAYUMIS_EMBEDDING = "classifier.add_block."


def check_pooling(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a pooling of FastReID's with weights, unless it is an average after all.

    Raises:
        CheckpointError: it is another one.
    """
    for name, value in state.items():
        if name == f"{POOLING}p" and bool((value == 1).all()):
            continue
        if name.startswith(POOLING):
            raise CheckpointError(
                f"{path}: {name!r} is of a pooling that is not known here, where features are "
                "averaged; export the model to ONNX with the program that trained it"
            )


def find_incompatibilities(
    model: nn.Module, content: Mapping[str, Any], *, fastreid: bool, dropped: Sequence[str]
) -> list[str]:
    """Say what the model computes otherwise than the program that wrote a file.

    Args:
        model: with the file's weights.
        content: of the file.
        fastreid: whether FastReID wrote it.
        dropped: names of tensors in the file that the model does not have.

    Returns:
        A clause for each that says what to do about it, without the file's name.
    """
    found = []
    part = next((name for name in dropped if _is_of_embedding(name)), None)
    if part is not None:
        found.append(
            f"{part!r} is part of the embedding there and is not built here; choose an "
            "architecture that has it, or export the model to ONNX with the program that trained it"
        )
    if isinstance(model, ResNet):
        stem = _own_form(model, content) if "format_version" in content else _stem(model, fastreid)
        found += [stem] if stem else []
    return found


def _is_of_embedding(name: str) -> bool:
    if name.startswith(LAYUMIS_EMBEDDING):
        return True
    other = (*BEHIND_EMBEDDING, *INPUT_STATISTICS, POOLING)
    return not name.startswith(other)


def _stem(model: ResNet, fastreid: bool) -> str | None:
    if fastreid and model.padded_stem:
        return (
            "FastReID's ResNet has a first pooling without padding; choose resnet18_fastreid or "
            "resnet50_fastreid, which have it too"
        )
    if not fastreid and not model.padded_stem:
        return "it is not FastReID's, whose first pooling has no padding; choose another ResNet"
    return None


def _own_form(model: nn.Module, content: Mapping[str, Any]) -> str | None:
    name = content.get("architecture")
    if name not in MODELS:
        return None
    with torch.device("meta"):  # nothing is computed, no random number is drawn
        own = build_model(name)
    layer = differing_form(own, model)
    if layer is None:
        return None
    return f"{layer!r} of {name}, which it is of, has another stride or padding; choose {name}"

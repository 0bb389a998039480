"""Find where a model computes something else than the program that its weights come from.

Strides, paddings and poolings have no weights, so loading does not check them; tensors that are
dropped are not checked either. Training adapts to the difference. A model that is used without
training gives other embeddings than the original program.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.models.custom_widths import differing_form
from reid_edge.models.input_statistics import INPUT_STATISTICS
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.models.resnet import ResNet
from reid_edge.models.shapes import build_shapes

# FastReID's pooling; average pooling, the only one here, has no tensors.
POOLING = "heads.pool_layer."
# The tensors behind the embedding. In layumi's "classifier", "add_block" is the embedding.
BEHIND_EMBEDDING = ("classifier.", "heads.classifier.", "fc.weight", "fc.bias")
LAYUMIS_EMBEDDING = "classifier.add_block."


def check_pooling(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a FastReID pooling with weights, unless these make it an average.

    Raises:
        CheckpointError: it is another pooling.
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
    """List what the model computes differently from the program that wrote a file.

    Args:
        model: with the file's weights.
        content: of the file.
        fastreid: whether FastReID wrote it.
        dropped: names of tensors in the file that the model does not have.

    Returns:
        A clause for each difference that says what to do about it, without the file's name.
    """
    found = []
    behind = (*BEHIND_EMBEDDING, *INPUT_STATISTICS, POOLING)
    for name in dropped:
        if name.startswith(LAYUMIS_EMBEDDING) or not name.startswith(behind):
            found.append(
                f"{name!r} is part of the embedding there and is not built here; choose an "
                "architecture that has it, or export the model to ONNX with the program that "
                "trained it"
            )
            break
    if not isinstance(model, ResNet):
        return found
    if "format_version" in content:
        form = _difference_from_own(model, content.get("architecture"))
        if form is not None:
            found.append(form)
    elif fastreid and model.padded_stem:
        forms = " or ".join(name for name, own in ARCHITECTURES.items() if own.fastreid == name)
        found.append(
            "FastReID's ResNet has a first pooling without padding; "
            f"choose {forms}, which have it too"
        )
    elif not fastreid and not model.padded_stem:
        found.append(
            "it is not FastReID's, whose first pooling has no padding; choose another ResNet"
        )
    return found


def _difference_from_own(model: nn.Module, name: object) -> str | None:
    """Compare a model with the architecture that a checkpoint of this program names."""
    if not isinstance(name, str) or name not in ARCHITECTURES:
        return None
    layer = differing_form(build_shapes(name), model)
    if layer is None:
        return None
    return (
        f"{layer!r} of {name}, the file's architecture, has another stride or padding; "
        f"choose {name}"
    )

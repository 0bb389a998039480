"""Find where a model computes something else than the program that its weights come from.

Strides, paddings and poolings have no weights, so loading does not check them; tensors that are
dropped are not checked either. Training adapts to the difference. A model that is used without
training gives other embeddings than the original program.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.models.custom_widths import differing_form
from reid_edge.models.fastreid_files import POOLING, POOLING_EXPONENT
from reid_edge.models.input_statistics import INPUT_STATISTICS
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.models.resnet import ResNet
from reid_edge.models.shapes import build_shapes

# What trainings save beside the model: losses with weights (the center loss), and counters.
NOT_OF_THE_MODEL = re.compile(r"n_averaged$|\w*(?:loss|criterion|center|metric|queue)\w*(?:\.|$)")
# The tensors behind the embedding. In layumi's "classifier", "add_block" is the embedding.
BEHIND_EMBEDDING = ("classifier.", "heads.classifier.", "fc.weight", "fc.bias")
LAYUMIS_EMBEDDING = "classifier.add_block."


def check_pooling(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse a FastReID pooling that the model has not, unless its weights make it an average.

    Args:
        path: the file, for messages.
        state: its tensors, by FastReID's names.
        own: the model's.

    Raises:
        CheckpointError: it is another pooling.
    """
    for name, value in state.items():
        is_exponent = POOLING_EXPONENT.fullmatch(name) is not None
        if is_exponent and ("global_avgpool.p" in own or bool((value == 1).all())):
            continue
        if name.startswith(POOLING):
            forms = [form for form in ARCHITECTURES if form.endswith("_sbs")]
            raise CheckpointError(
                f"{path}: {name!r} is of a pooling that this architecture has not; the exponent of "
                f"generalized mean pooling is in {', '.join(forms)}; export other models to ONNX "
                "with the program that trained them"
            )


def find_incompatibilities(
    model: nn.Module,
    content: Mapping[str, Any],
    *,
    fastreid: bool,
    form: str | None,
    dropped: Sequence[str],
) -> list[str]:
    """List what the model computes differently from the program that wrote a file.

    Args:
        model: with the file's weights.
        content: of the file.
        fastreid: whether FastReID wrote it.
        form: the architecture that FastReID's file is of, if it is built here.
        dropped: names of tensors in the file that the model does not have.

    Returns:
        A clause for each difference that says what to do about it, without the file's name.
    """
    found = []
    behind = (*BEHIND_EMBEDDING, *INPUT_STATISTICS, POOLING)
    for name in dropped:
        if NOT_OF_THE_MODEL.match(name):
            continue
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
        own = content.get("architecture", "")
        known = isinstance(own, str) and own in ARCHITECTURES
        layer = differing_form(build_shapes(own), model) if known else None
        if layer is not None:
            found.append(
                f"{layer!r} of {own}, the file's architecture, has another stride or padding; "
                f"choose {own}"
            )
    elif fastreid and model.padded_stem:
        found.append(
            "FastReID's ResNet has a first pooling without padding; choose "
            f"{form or 'an architecture of FastReID'}, which has it too"
        )
    elif not fastreid and not model.padded_stem:
        found.append(
            "it is not FastReID's, whose first pooling has no padding; choose another ResNet"
        )
    return found

"""Load weights of torchreid, FastReID, layumi, BoxMOT, torchvision, or this program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import Colours
from reid_edge.models.architecture import CLASSIFIER, HEAD
from reid_edge.models.checkpoint import read_torch_file
from reid_edge.models.fastreid_files import (
    find_architecture,
    is_fastreids,
    with_exponent,
    with_own_names,
)
from reid_edge.models.foreign_state import COUNTER, find_state, unwrapped
from reid_edge.models.incompatibilities import (
    NOT_OF_THE_MODEL,
    check_pooling,
    find_incompatibilities,
)
from reid_edge.models.input_statistics import INPUT_STATISTICS, input_statistics
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.models.resnet import ResNet
from reid_edge.models.tensor_checks import find_flaw

# The layers behind the pooled features differ between programs and tasks.
HEADS = (*(f"{name}." for name in HEAD), "heads.", "head.")


@dataclass(frozen=True)
class LoadReport:
    """What was loaded from a file of weights.

    Attributes:
        path: the file.
        taken: names of the tensors that were loaded.
        dropped: names in the file that were not loaded (the head of another program or task, such
            as the classifier of other identities).
        missing: names of the model that the file does not have (they stay random).
        statistics: mean and std of colours in [0, 1] with which the file's program normalises.
        incompatibilities: what the model computes differently from that program, one clause each.
        last_stride: of the model, if it is a ResNet and the file does not say its stride.
        notes: what was chosen or assumed where the file leaves it open, one clause each.
    """

    path: Path
    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    statistics: tuple[Colours, Colours]
    incompatibilities: tuple[str, ...] = ()
    last_stride: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def random(self) -> tuple[str, ...]:
        """Return the names of tensors that embeddings depend on and that stay random."""
        return tuple(name for name in self.missing if not name.startswith(f"{CLASSIFIER}."))

    def __str__(self) -> str:
        """Return one line."""

        def names(items: tuple[str, ...]) -> str:
            return f"{len(items)}" + (f" ({', '.join(items)})" if items else "")

        line = (
            f"{self.path.name}: {len(self.taken)} tensors taken, {names(self.dropped)} dropped, "
            f"{names(self.missing)} missing"
        )
        line = "; ".join((line, *self.notes))
        if self.last_stride is None:
            return line
        return f"{line}; the file does not say its last stride, the model's is {self.last_stride}"


def load_pretrained(model: nn.Module, path: Path, key: str | None = None) -> LoadReport:
    """Load weights into a model, in place; the backbone has to fit as a whole.

    The head of another program or task is dropped. A head that the file does not have (an embedding
    layer, a BNNeck, the classifier) keeps its random weights. The report names both.

    Args:
        model: its classifier keeps its random weights unless the file's has the same shape.
        path: a file of ``torch.save``, see :mod:`reid_edge.models.foreign_state`.
        key: under which its weights are, if there are several, see
            :func:`reid_edge.models.foreign_state.find_state`.

    Returns:
        Which tensors were taken, dropped and missing, what the model computes differently from the
        program that wrote the file, and what the file leaves open.

    Raises:
        CheckpointError: the file is not safe or not readable, its tensors cannot be weights
            (integers, sparse or not finite ones, all zero), the backbone does not fit, a head other
            than the classifier fits only in part, or the file has weights of a pooling that the
            model has not (poolings of FastReID without weights are not noticed).
    """
    content = read_torch_file(path)
    found = find_state(content, path, key)
    own = model.state_dict()
    is_own, fastreid = "format_version" in content, is_fastreids(found.state)
    state = unwrapped(found.state, path, own)
    notes = [str(found)] if found.others else []
    form = None
    if fastreid:
        form = find_architecture(state)
        check_pooling(path, state, own)
        state = with_own_names(state)
        exponent = with_exponent(state, own)
        if exponent is not None:
            notes.append(exponent)
    if not is_own and not any(name in state for name in INPUT_STATISTICS):
        notes.append("no mean and std of colours in it, ImageNet's are assumed")
    fitting = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    flaw = find_flaw(fitting, own)
    if flaw is not None:
        raise CheckpointError(f"{path}: {flaw}; save the weights of a trained model in float32")
    dropped = sorted(name for name in state if name not in fitting)
    missing = sorted(name for name in own if name not in fitting and not name.endswith(COUNTER))
    wrong = [name for name in dropped if not _may_differ(name, own)]
    wrong += [name for name in missing if not _may_differ(name, state)]
    if wrong:
        raise CheckpointError(f"{path}: does not fit the model: {_misfit(wrong[0], state, own)}")
    model.load_state_dict(fitting, strict=False)
    return LoadReport(
        path,
        tuple(fitting),
        tuple(dropped),
        tuple(missing),
        statistics=input_statistics(path, state),
        incompatibilities=tuple(
            find_incompatibilities(model, content, fastreid=fastreid, form=form, dropped=dropped)
        ),
        # Our own checkpoints name their architecture, and with it the stride.
        last_stride=model.last_stride if isinstance(model, ResNet) and not is_own else None,
        notes=tuple(notes),
    )


def architecture_from_name(path: Path) -> str:
    """Read the architecture from the start of a file's name, as in ``osnet_x0_25_msmt17.pt``.

    BoxMOT and torchreid's model zoo name their files in this way. Of several names that match, the
    longest is taken.

    Raises:
        CheckpointError: the name starts with no known architecture.
    """
    name = path.name.lower()
    found = [key for key in ARCHITECTURES if re.match(rf"{key}(?![a-z0-9])", name)]
    if not found:
        raise CheckpointError(
            f"{path}: neither the file nor the start of its name says which architecture it is; "
            f"name one of {', '.join(ARCHITECTURES)}"
        )
    return max(found, key=len)


def _may_differ(name: str, other: Mapping[str, Tensor]) -> bool:
    """Tell whether a tensor may be in the file only or in the model only.

    A head may be absent as a whole; only the classifier may have another shape.

    Args:
        name: of the tensor.
        other: the tensors of the one that lacks it.
    """
    if name.startswith((*INPUT_STATISTICS, f"{CLASSIFIER}.")) or NOT_OF_THE_MODEL.match(name):
        return True
    head = next((head for head in HEADS if name.startswith(head)), None)
    return head is not None and not any(key.startswith(head) for key in other)


def _misfit(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    if name not in own:
        return f"{name!r} is in the file but not in the model; is it another architecture?"
    if name not in state:
        return f"{name!r} of the model is not in the file; is it another architecture?"
    return (
        f"{name!r} has shape {tuple(state[name].shape)} in the file and "
        f"{tuple(own[name].shape)} in the model; choose the architecture of the file"
    )

"""Load weights of torchreid, FastReID, layumi, BoxMOT, torchvision, or this program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import Colours
from reid_edge.models.architecture import CLASSIFIER, HEAD
from reid_edge.models.checkpoint import read_torch_file
from reid_edge.models.incompatibilities import check_pooling, find_incompatibilities
from reid_edge.models.input_statistics import INPUT_STATISTICS, input_statistics
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.models.resnet import ResNet

WRAPPERS = ("state_dict", "model", "model_state_dict")
# DataParallel's, layumi's and FastReID's.
PREFIXES = re.compile(r"^(?:(?:module|model|backbone)\.)+")
# The layers behind the pooled features differ between programs and tasks.
HEADS = (*(f"{name}." for name in HEAD), "heads.")
# FastReID's model has these two parts.
FASTREID = ("backbone.", "heads.")


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
    """

    path: Path
    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    statistics: tuple[Colours, Colours]
    incompatibilities: tuple[str, ...] = ()
    last_stride: int | None = None

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
        if self.last_stride is None:
            return line
        return f"{line}; the file does not say its last stride, the model's is {self.last_stride}"


def load_pretrained(model: nn.Module, path: Path) -> LoadReport:
    """Load weights into a model, in place; the backbone has to fit as a whole.

    The head of another program or task is dropped. A head that the file does not have (an embedding
    layer, a BNNeck, the classifier) keeps its random weights. The report names both.

    Args:
        model: its classifier keeps its random weights unless the file's has the same shape.
        path: a file of ``torch.save``, see :func:`extract_state`.

    Returns:
        Which tensors were taken, dropped and missing, and what the model computes differently from
        the program that wrote the file.

    Raises:
        CheckpointError: the file is not safe or not readable, the backbone does not fit, a head
            other than the classifier fits only in part, or the file has weights of a pooling other
            than the average (other poolings of FastReID have no weights and are not noticed).
    """
    content = read_torch_file(path)
    state = extract_state(content, path)
    check_pooling(path, state)
    own = model.state_dict()
    taken = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    dropped = sorted(name for name in state if name not in taken)
    counter = "num_batches_tracked"
    missing = sorted(name for name in own if name not in taken and not name.endswith(counter))
    wrong = [name for name in dropped if not _may_differ(name, own)]
    wrong += [name for name in missing if not _may_differ(name, state)]
    if wrong:
        raise CheckpointError(f"{path}: does not fit the model: {_misfit(wrong[0], state, own)}")
    model.load_state_dict(taken, strict=False)
    # Our own checkpoints name their architecture, and with it the stride.
    says_it = "format_version" in content
    last_stride = model.last_stride if isinstance(model, ResNet) and not says_it else None
    fastreid = is_fastreids(content, path)
    return LoadReport(
        path,
        tuple(taken),
        tuple(dropped),
        tuple(missing),
        statistics=input_statistics(path, state),
        incompatibilities=tuple(
            find_incompatibilities(model, content, fastreid=fastreid, dropped=dropped)
        ),
        last_stride=last_stride,
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


def extract_state(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the state dictionary in a file's content, and rename its tensors as they are here.

    Args:
        content: a bare state dictionary (layumi, BoxMOT, torchvision), or one below the key
            ``state_dict`` (torchreid) or ``model`` (FastReID). Names may start with ``module.``
            (DataParallel), ``model.`` (layumi) or ``backbone.`` (FastReID).
        path: the file, for messages.

    Raises:
        CheckpointError: the content has no tensors, or two of them get the same name.
    """
    state: dict[str, Tensor] = {}
    for name, value in _tensors(content, path).items():
        short = PREFIXES.sub("", name)
        if short in state:
            raise CheckpointError(f"{path}: holds {short!r} twice; save one model alone")
        state[short] = value
    return _with_fastreid_head(state)


def is_fastreids(content: Mapping[str, Any], path: Path) -> bool:
    """Tell by the names of its tensors whether FastReID wrote a file.

    Raises:
        CheckpointError: the content has no tensors.
    """
    names = [re.sub(r"^(?:(?:module|model)\.)+", "", name) for name in _tensors(content, path)]
    return all(any(name.startswith(part) for name in names) for part in FASTREID)


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    found = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise CheckpointError(f"{path}: no weights in it; expected a state dictionary")
    return found


def _with_fastreid_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename FastReID's head to a BNNeck, with an embedding layer in front of it if it has one.

    FastReID's embedding layer is a pointwise convolution; on pooled features it is a linear layer.
    """
    first = state.get("heads.bottleneck.0.weight")
    has_layer = first is not None and first.dim() == 4
    neck = "heads.bottleneck.1." if has_layer else "heads.bottleneck.0."
    renamed = {}
    for name, value in state.items():
        if name in ("heads.weight", "heads.classifier.weight"):
            renamed["classifier.weight"] = value
        elif has_layer and name == "heads.bottleneck.0.weight":
            renamed["embedding.0.weight"] = value.flatten(1)
        elif name.startswith(neck):
            renamed["bottleneck." + name.removeprefix(neck)] = value
        else:
            renamed[name] = value
    return renamed


def _may_differ(name: str, other: Mapping[str, Tensor]) -> bool:
    """Tell whether a tensor may be in the file only or in the model only.

    A head may be absent as a whole; only the classifier may have another shape.

    Args:
        name: of the tensor.
        other: the tensors of the one that lacks it.
    """
    if name in INPUT_STATISTICS or name.startswith(f"{CLASSIFIER}."):
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

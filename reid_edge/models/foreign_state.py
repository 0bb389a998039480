"""Find the weights in a file of another program, whatever they are wrapped in.

What programs save, as of 2026:

| program | under the key | names begin with |
|---|---|---|
| torchvision, layumi, BoxMOT's zoo | none | nothing, or `model.` (layumi) |
| torchreid, BoxMOT | `state_dict` | nothing, or `module.` (DataParallel) |
| FastReID | `model` | `backbone.`, `heads.`; `module.` before them |
| Lightning | `state_dict`; `current_model_state` beside it is the model that is averaged there | the name of the model in the module: `model.`, `net.`, any other |
| mmengine (MMPreTrain, MMTracking) | `state_dict`; `ema_state_dict` beside it | `backbone.`, `head.` |
| timm | `state_dict`; `state_dict_ema` beside it | nothing |
| accelerate | none, or any key | nothing, or `module.` |
| DistributedDataParallel, DeepSpeed, `AveragedModel` | none, any key, or `module` | `module.` |
| `torch.compile` | none, or any key | `_orig_mod.`, before or behind `module.` |
| scripts | `net`, `model_state_dict`, `weights`, `params` | `net.`, `network.`, `encoder.` |
| Ultralytics | `model`, `ema`: pickled modules, which are refused | |
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from reid_edge.core.errors import CheckpointError
from reid_edge.models.architecture import HEAD

# Taken in this order where several are there; others are taken where they are alone.
KEYS = ("state_dict", "model", "model_state_dict", "net")
AVERAGED = re.compile(r"ema|averag", re.IGNORECASE)
# Modules that only hold the model.
WRAPPERS = (
    "module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "base_model",
    "ema_model",
)  # fmt: skip
# What a BatchNorm counts, and what files of early versions of PyTorch do not have.
COUNTER = "num_batches_tracked"
HOW_TO_CHOOSE = "--weights-key KEY, or train.pretrained_key of a run"


@dataclass(frozen=True)
class FoundState:
    """The weights in a file of another program.

    Attributes:
        state: tensors, with the names that they have in the file.
        key: where they were in the file; empty: at its top.
        others: other keys under which the file holds weights.
    """

    state: dict[str, Tensor]
    key: str = ""
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return which weights were taken, if there were others to choose from; else nothing."""
        if not self.others:
            return ""
        taken = f"under {self.key!r}" if self.key else "at its top"
        others = ", ".join(map(repr, self.others))
        return f"the weights {taken} are taken, not those of {others} (choose by {HOW_TO_CHOOSE})"


def find_state(content: Mapping[Any, Any], path: Path, key: str | None = None) -> FoundState:
    """Find the weights in a file's content.

    Args:
        content: of the file.
        path: the file, for messages.
        key: under which the weights are: a key of the file, or the first part of the names of one
            of several models (``teacher`` of ``teacher.conv1.weight``). By default the first of
            ``KEYS`` that is there, or the content itself, or what is the only one.

    Raises:
        CheckpointError: there are no weights, none under the key, or several of which none is
            the usual one.
    """
    found = {
        name: tensors
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Mapping) and (tensors := _tensors(value))
    }
    top = _tensors(content)
    if key is not None:
        others = tuple(name for name in found if name != key)
        if key in found:
            return FoundState(found[key], key, others)
        begin = f"{key}."
        for state in (*found.values(), top):
            part = {n.removeprefix(begin): t for n, t in state.items() if n.startswith(begin)}
            if part:
                return FoundState(part, key, others)
        firsts = dict.fromkeys(name.partition(".")[0] for state in found.values() for name in state)
        there = ", ".join([*found, *firsts][:12]) or "none"
        raise CheckpointError(f"{path}: no weights under {key!r}; there are {there}")
    plain = [name for name in found if not AVERAGED.search(name)]
    alone = plain if len(plain) == 1 else [*found] if len(found) == 1 else []
    usual = [name for name in KEYS if name in found]
    if not usual and top:
        return FoundState(top, others=tuple(found))
    if not usual and not alone:
        if found:
            raise CheckpointError(
                f"{path}: holds weights under {', '.join(found)}; choose by {HOW_TO_CHOOSE}"
            )
        raise CheckpointError(f"{path}: no weights in it; expected a state dictionary")
    taken = (usual or alone)[0]
    return FoundState(found[taken], taken, tuple(name for name in found if name != taken))


def _tensors(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    # A number as a name becomes text, and then is no name of the model.
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def unwrapped(
    state: Mapping[str, Tensor], path: Path, own: Collection[str] = ()
) -> dict[str, Tensor]:
    """Rename tensors as they are in a model: without the modules that hold it.

    Args:
        state: names as they are in the file.
        path: the file, for messages.
        own: names of the model's tensors. A name that is there is not shortened further, and
            wrappers of any name are found by them.

    Raises:
        CheckpointError: two tensors get the same name, or there are several models.
    """
    # What names the modules that hold the model, where its backbone is there as a whole.
    prefix = ""
    backbone = [
        name for name in own if name.partition(".")[0] not in HEAD and not name.endswith(COUNTER)
    ]
    if backbone and backbone[0] not in state:
        anchor = f".{backbone[0]}"
        starts = (name.removesuffix(backbone[0]) for name in state if name.endswith(anchor))
        found = [start for start in starts if all(start + name in state for name in backbone)]
        if len(found) > 1:
            names = ", ".join(start.removesuffix(".") for start in found)
            raise CheckpointError(
                f"{path}: holds several models: {names}; choose by {HOW_TO_CHOOSE}"
            )
        prefix = found[0] if found else ""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        short = name.removeprefix(prefix)
        while short not in own:
            first, _, rest = short.partition(".")
            if not rest or first not in WRAPPERS:
                break
            short = rest
        if short in renamed:
            raise CheckpointError(
                f"{path}: holds {short!r} twice; save one model alone, or choose by {HOW_TO_CHOOSE}"
            )
        renamed[short] = value
    return renamed

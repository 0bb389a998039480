"""Weights from elsewhere: torchreid, FastReID, BoxMOT, bare state dictionaries, and our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid.errors import CheckpointError
from reid.models.checkpoint import read_torch_file

WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "model.")
CLASSIFIER = "classifier."


@dataclass(frozen=True)
class LoadReport:
    """What was taken from a file of weights.

    Attributes:
        path: the file.
        taken: names of the tensors that were loaded.
        dropped: names in the file that were not used (the classifier of other identities).
        missing: names of the model that the file does not have (they stay random).
    """

    path: Path
    taken: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in one line."""

        def names(items: tuple[str, ...]) -> str:
            return f"{len(items)}" + (f" ({', '.join(items)})" if items else "")

        return (
            f"{self.path.name}: {len(self.taken)} tensors taken, {names(self.dropped)} dropped, "
            f"{names(self.missing)} missing"
        )


def load_pretrained(model: nn.Module, path: Path) -> LoadReport:
    """Load weights into a model, in place; only the classifier may stay behind.

    Args:
        model: its classifier keeps its random weights unless the file's has the same shape.
        path: a file of ``torch.save``: a bare state dictionary, or one below the key
            ``state_dict`` (torchreid) or ``model`` (FastReID); names may start with ``module.``.

    Returns:
        Which tensors were taken, dropped and missing.

    Raises:
        CheckpointError: the file is not safe or not readable, or the backbone does not fit.
    """
    state = extract_state(read_torch_file(path), path)
    own = model.state_dict()
    taken = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    misfits = sorted(name for name in state if name not in taken)
    missing = sorted(name for name in own if name not in taken and not _is_counter(name))
    wrong = [n for n in (*misfits, *missing) if not n.startswith(CLASSIFIER)]
    if wrong:
        raise CheckpointError(f"{path}: does not fit the model: {_misfit(wrong[0], state, own)}")
    model.load_state_dict(taken, strict=False)
    return LoadReport(path, tuple(taken), tuple(misfits), tuple(missing))


def extract_state(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Find the state dictionary in what a file holds, and strip the prefixes of its names.

    Raises:
        CheckpointError: there are no tensors in it.
    """
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(f"{path}: no weights in it; expected a state dictionary")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _misfit(name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    if name not in own:
        return f"{name!r} is in the file but not in the model; is it another architecture?"
    if name not in state:
        return f"{name!r} of the model is not in the file; is it another architecture?"
    return (
        f"{name!r} has shape {tuple(state[name].shape)} in the file and "
        f"{tuple(own[name].shape)} in the model; choose the architecture of the file"
    )

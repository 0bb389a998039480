"""Stop a training at the first step whose losses or weights are not finite."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import get_total_norm

from reid_edge.core.errors import DivergenceError
from reid_edge.core.io import write_json
from reid_edge.training.fit_config import DIVERGED

NAMED_IMAGES = 3


@dataclass(frozen=True)
class Divergence:
    """The content of ``diverged.json``: where a training stopped.

    Attributes:
        epoch: counted from 1.
        step: of the epoch, counted from 1.
        reason: what is not finite.
        learning_rates: peak rates, by the optimiser's group.
        images: files of the step's batch.
    """

    epoch: int
    step: int
    reason: str
    learning_rates: tuple[float, ...]
    images: tuple[str, ...]


@dataclass(frozen=True)
class _Step:
    """The numbers of a step, perhaps on their way from the device.

    Attributes:
        epoch: counted from 0.
        index: of the batch, counted from 0.
        names: of ``values``.
        values: (number of names,) on the CPU.
        copied: event after the copy; None: the values are there.
    """

    epoch: int
    index: int
    names: Sequence[str]
    values: Tensor
    copied: torch.cuda.Event | None


class StopAtDivergence(Callback):
    """Look at the losses, weights and normalisation statistics after every step.

    A step after which one of them is not finite ends the training, before a state of it is saved.
    Gradients are not looked at: in mixed precision the scaler leaves out a step whose gradients
    overflow. On a CPU the numbers are looked at at once. On another device they are copied without
    waiting for them, and looked at one step later, so that the device is never idle.

    Args:
        label: name of the training.
        folder: receives ``diverged.json``.
        delayed: look one step later; none: where the device is asynchronous.

    Raises:
        DivergenceError: a number is not finite.
    """

    def __init__(self, label: str, folder: Path, *, delayed: bool | None = None) -> None:
        self._label = label
        self._delayed = delayed
        self._folder = folder
        self._pending: _Step | None = None

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at this step or, on a device that is asynchronous, at the one before it."""
        del batch
        model: Any = pl_module.model
        terms: dict[str, Tensor] = getattr(pl_module, "terms", {})
        with torch.no_grad():
            values = {"the loss": outputs["loss"], **{f"loss {n}": v for n, v in terms.items()}}
            values["a weight"] = _probe(model.parameters())
            norms = [module for module in model.modules() if isinstance(module, _NormBase)]
            statistics = [s for norm in norms for s in (norm.running_mean, norm.running_var)]
            values["a statistic of a normalisation"] = _probe(
                statistic for statistic in statistics if statistic is not None
            )
            stacked = torch.stack([value.detach().float() for value in values.values()])
            if trainer.world_size > 1:
                # What is not finite on one rank ends all of them in the same step.
                torch.distributed.all_reduce(stacked)
            host = stacked.to("cpu", non_blocking=True)
        event = None
        if stacked.is_cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._check(trainer)
        self._pending = _Step(trainer.current_epoch, batch_idx, tuple(values), host, event)
        delayed = event is not None if self._delayed is None else self._delayed
        # Validation and saving follow the last step of an epoch.
        if not delayed or batch_idx + 1 == trainer.num_training_batches:
            self._check(trainer)

    def _check(self, trainer: lightning.Trainer) -> None:
        step, self._pending = self._pending, None
        if step is None:
            return
        if step.copied is not None:
            step.copied.synchronize()
        values = step.values.tolist()
        bad = [name for name, value in zip(step.names, values, strict=True)
               if not math.isfinite(value)]  # fmt: skip
        if not bad:
            return
        # A term says more than the sum of the terms.
        what = next((name for name in bad if name.startswith("loss ")), bad[0])
        # The sampler draws the images of the batch again.
        loader: Any = trainer.train_dataloader
        loader.sampler.set_epoch(step.epoch)
        first = step.index * loader.batch_size
        drawn = (
            islice(loader.sampler.of_rank(rank), first, first + loader.batch_size)
            for rank in range(trainer.world_size)
        )
        files = tuple(str(loader.dataset.path_of(key)) for part in drawn for key, _ in part)
        rates = tuple(
            float(rate) for config in trainer.lr_scheduler_configs for rate in
            getattr(config.scheduler, "base_lrs", ())
        )  # fmt: skip
        reason = f"{what} is not finite"
        found = Divergence(step.epoch + 1, step.index + 1, reason, rates, files)
        if trainer.is_global_zero:
            write_json(self._folder / DIVERGED, asdict(found))
        named = ", ".join(Path(file).name for file in files[:NAMED_IMAGES])
        more = f" and {len(files) - NAMED_IMAGES} more" if len(files) > NAMED_IMAGES else ""
        kept = f"the state after epoch {step.epoch} is kept" if step.epoch else "no epoch was whole"
        shown = " and ".join(dict.fromkeys(f"{rate:g}" for rate in rates))
        raise DivergenceError(
            f"{self._label}: epoch {step.epoch + 1}, step {step.index + 1} of "
            f"{trainer.num_training_batches}: {reason} (images {named}{more}, all of them in "
            f"{self._folder / DIVERGED}); {kept}; lower learning_rate (it is {shown}) or set "
            "gradient_clip, and give the same command again"
        )


def _probe(tensors: Iterable[Tensor]) -> Tensor:
    """Return a number that is not finite if, and only if, one of the values is not."""
    found = [t for t in tensors if t.numel()]
    if found and found[0].device.type == "cpu":
        # A sum takes a tenth of the time of a norm there. One of finite values may overflow.
        total = torch.stack([t.sum().float() for t in found]).sum()
        if total.isfinite():
            return total
    return get_total_norm(found, norm_type=math.inf)

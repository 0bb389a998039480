"""Train a model; go on from the last whole epoch if there is one."""

import logging
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn

from reid_edge.core.errors import TrainingError, worker_errors_as_own
from reid_edge.data.loaders import training_loader
from reid_edge.data.schema import Sample
from reid_edge.models.checkpoint import read_torch_file
from reid_edge.training.averaging import average_weights
from reid_edge.training.checkpoint_io import AtomicCheckpointIO, KeepBest
from reid_edge.training.distillation import Teacher
from reid_edge.training.epoch_log import EpochLog
from reid_edge.training.layers import FreezeLayers, match_layers
from reid_edge.training.metric_logs import MetricLog
from reid_edge.training.module import ReidModule
from reid_edge.training.processes import make_strategy, one_log, quiet_lightning
from reid_edge.training.settings import MetricFormat, TrainingSettings
from reid_edge.training.validation import METRIC, Validation

LAST = "last.ckpt"
BEST = "best.ckpt"

logger = logging.getLogger(__name__)


def fit(
    model: nn.Module,
    images: Sequence[Sample],
    settings: TrainingSettings,
    *,
    height: int,
    width: int,
    seed: int,
    folder: Path,
    label: str,
    workers: int = 0,
    accelerator: str = "auto",
    devices: int = 1,
    teacher: Teacher | None = None,
    validation: Validation | None = None,
    log: Sequence[MetricFormat] = (),
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train a model in place.

    After every epoch the whole state is written to ``folder``. Called again with the same
    arguments after a kill, it goes on from there and ends with the same weights, bit for bit: all
    that is drawn is a function of the seed and the epoch.

    The model ends with the weights of the last epoch or, with a validation, of the best one; with
    ``ema_decay``, with their moving average.

    Args:
        model: returns (logits, embeddings) in training mode.
        images: the training set.
        settings: how.
        height: input rows.
        width: input columns.
        seed: of every draw.
        folder: where the state between epochs is kept.
        label: names the training in the log.
        workers: processes that load images; does not change the result.
        accelerator: Lightning's name of the device kind.
        devices: GPUs, or processes on the CPU, that share the batches of an epoch out; the gradient
            of a step is the mean of theirs.
        teacher: what to imitate, if anything.
        validation: what to choose the best epoch by, if anything.
        log: how the numbers of every epoch are written into ``folder``.
        callbacks: called besides; what they keep goes into the state between epochs.

    Raises:
        TrainingError: the training set is too small for a batch, there is nothing to learn from,
            or the layers to freeze are not there.
        CheckpointError: the state between epochs cannot be read.
        DataError: an image cannot be decoded.
    """
    if settings.epochs == 0:
        return
    if not settings.losses.total_weight and not (teacher and teacher.teaches):
        raise TrainingError(
            f"{label}: nothing to learn from, every loss that applies has weight 0; give "
            "losses.cross_entropy or distillation.embedding a weight"
        )
    loader = training_loader(
        images,
        augmentation=settings.augmentation,
        height=height,
        width=width,
        identities_per_batch=settings.identities_per_batch,
        images_per_identity=settings.images_per_identity,
        seed=seed,
        workers=workers,
        replicas=devices,
    )
    module = ReidModule(
        model, settings, steps_per_epoch=len(loader), teacher=teacher, validation=validation
    )
    model.train()  # Lightning leaves the mode as it finds it
    model.to(memory_format=torch.channels_last)
    last = folder / LAST
    done, stopped = _progress(last, len(loader)) if last.exists() else (0, False)
    if done:
        logger.info("%s: going on after epoch %d (%s)", label, done, last)
        # Lightning starts the loader's workers before it names the epoch to the sampler.
        loader.sampler.set_epoch(done)  # type: ignore[attr-defined]
    if not stopped:
        hooks = [
            EpochLog(label, seed),
            *_callbacks(model, settings, folder, teacher),
            *callbacks,
            MetricLog(folder, log),
            *(_keep_best(settings, folder) if validation is not None else ()),
        ]
        measured = validation and validation.loader(height=height, width=width, workers=workers)
        with quiet_lightning(), worker_errors_as_own(), one_log(devices) as inheritance:
            trainer = _make_trainer(settings, accelerator, devices, [*inheritance, *hooks])
            trainer.fit(
                module, loader, measured, ckpt_path=str(last) if done else None, weights_only=True
            )
    for used in (model, *(() if teacher is None else (teacher.model,))):
        used.cpu().to(memory_format=torch.contiguous_format)
    load_weights(model, folder / (BEST if validation is not None else LAST))


def load_weights(model: nn.Module, path: Path) -> None:
    """Give a model the weights that a file of its training holds; with EMA, their average."""
    state = read_torch_file(path)["state_dict"]
    prefix = "model."  # the module's name for it
    model.load_state_dict(
        {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
    )


def _progress(checkpoint: Path, steps_per_epoch: int) -> tuple[int, bool]:
    """Return how many epochs are done, and whether the patience was at its end then."""
    content = read_torch_file(checkpoint)
    # Written at the end of an epoch, while Lightning still counts it as the current one.
    done = int(content["global_step"]) // steps_per_epoch
    return done, any(state.get("stopped_epoch") for state in content["callbacks"].values())


def _callbacks(
    model: nn.Module, settings: TrainingSettings, folder: Path, teacher: Teacher | None
) -> list[Callback]:
    callbacks: list[Callback] = []
    if settings.frozen_epochs:
        logits = settings.losses.cross_entropy or (teacher is not None and teacher.settings.logits)
        layers = match_layers(model, settings.frozen_layers, classifier_learns=bool(logits))
        callbacks.append(FreezeLayers(layers, settings.frozen_epochs))
    if settings.ema_decay:
        callbacks.append(average_weights(settings.ema_decay))
    keep_last = ModelCheckpoint(
        dirpath=folder,
        filename=Path(LAST).stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [*callbacks, keep_last]


def _keep_best(settings: TrainingSettings, folder: Path) -> list[Callback]:
    best = KeepBest(
        dirpath=folder,
        filename=Path(BEST).stem,
        monitor=METRIC,
        mode="max",
        every_n_epochs=1,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    if not settings.patience:
        return [best]
    patience = EarlyStopping(
        METRIC, mode="max", patience=settings.patience, check_on_train_epoch_end=False
    )
    return [best, patience]


def _make_trainer(
    settings: TrainingSettings, accelerator: str, devices: int, callbacks: list[Callback]
) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=make_strategy(settings) if devices > 1 else "auto",
        max_epochs=settings.epochs,
        check_val_every_n_epoch=min(settings.validate_every, settings.epochs),
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip or None,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn",
        use_distributed_sampler=False,
    )

"""Train a model, and resume after its last whole epoch."""

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reid_edge.core.errors import TrainingError, worker_errors_as_own
from reid_edge.core.memory import freed_memory_kept
from reid_edge.data.loaders import training_loader, training_sampler
from reid_edge.data.schema import relabel
from reid_edge.training.averaging import average_weights
from reid_edge.training.checkpoint_io import AtomicCheckpointIO, KeepBest
from reid_edge.training.divergence import StopAtDivergence
from reid_edge.training.epoch_log import EpochLog
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.fit_state import BEST, LAST, load_weights, read_progress
from reid_edge.training.gathering import Together
from reid_edge.training.jobs import send_fit
from reid_edge.training.layers import FreezeLayers, match_layers
from reid_edge.training.metric_logs import MetricLog
from reid_edge.training.module import ReidModule
from reid_edge.training.pooling_gradient import channels_last_pooling_gradients
from reid_edge.training.processes import Processes, finds_unused, one_log, quiet_lightning
from reid_edge.training.schedule import scale_learning_rates
from reid_edge.training.sync_batchnorm import SyncBatchNorm
from reid_edge.training.validation import METRIC

logger = logging.getLogger(__name__)


def fit(model: nn.Module, config: FitConfig) -> None:
    """Train a model in place.

    The whole state is written to ``config.folder`` after every epoch. A second call with the same
    arguments after a kill resumes from it and ends with the same weights, bit for bit: every
    random draw is a function of the seed and the epoch.

    The model ends with the weights of the last epoch or, with a validation, of the best one; with
    ``ema_decay``, with their moving average.

    Args:
        model: returns (logits, embeddings) in training mode.
        config: what is trained on, how, and where the state is kept.

    Raises:
        DivergenceError: a loss, a weight or a BatchNorm statistic is not finite; the state after
            the last whole epoch is kept, and the training may be resumed with other rates.
        TrainingError: the training set is too small for a batch, no loss has a weight, or the
            layers to freeze are not there.
        CheckpointError: the state after an epoch cannot be read.
        DataError: an image cannot be decoded.
    """
    settings, teacher, validation = config.settings, config.teacher, config.validation
    if settings.epochs == 0:
        return
    if not settings.losses.total_weight and not (teacher and teacher.has_terms):
        raise TrainingError(
            f"{config.label}: nothing to learn from, every loss that applies has weight 0; give "
            "losses.cross_entropy or distillation.embedding a weight"
        )
    settings.check_pairs(config.label)
    if config.num_nodes > 1 and config.world is None:
        raise TrainingError(
            f"{config.label}: {config.num_nodes} machines train together only where another "
            "program starts the processes, such as torchrun or srun"
        )
    last = config.folder / LAST
    # Before other processes are sent a training that cannot be.
    sampler = training_sampler(
        config.images,
        settings.identities_per_batch,
        settings.images_per_identity,
        config.seed,
        config.ranks,
        config.neighbours,
    )
    batch = settings.identities_per_batch * settings.images_per_identity
    progress = read_progress(config.folder, len(sampler) // batch)
    if progress.epochs:
        logger.info("%s: resuming after epoch %d (%s)", config.label, progress.epochs, last)
        if progress.ranks not in (0, config.ranks):
            logger.warning(
                "%s: %d processes train on where %d did; the weights will not have the bits of an "
                "uninterrupted training",
                config.label, config.ranks, progress.ranks,
            )  # fmt: skip
    if not progress.stopped:
        if config.world is not None and config.ranks > 1:
            send_fit(config.world, model, config, epochs_done=progress.epochs)
        fit_rank(model, config, epochs_done=progress.epochs)
    for used in (model, *(() if teacher is None else (teacher.model,))):
        used.cpu().to(memory_format=torch.contiguous_format)
    load_weights(model, last if validation is None else config.folder / BEST)


def fit_rank(model: nn.Module, config: FitConfig, *, epochs_done: int) -> None:
    """Train a model in place, on every process that trains together with this one.

    Args:
        model: returns (logits, embeddings) in training mode.
        config: the same on all processes, except for the folder.
        epochs_done: epochs after which the training resumes from the state in the folder.
    """
    settings, teacher, validation = config.settings, config.teacher, config.validation
    rule = config.ddp.learning_rate_rule
    if config.ranks > 1 and rule != "none":
        settings = scale_learning_rates(settings, rule, config.ranks)
        logger.info(
            "%s: learning rate %g, of %d processes (%s)",
            config.label, settings.learning_rate, config.ranks, rule,
        )  # fmt: skip
    loader = _training_loader(config)
    if epochs_done:
        # Lightning starts the loader's workers before it gives the sampler the epoch.
        loader.sampler.set_epoch(epochs_done)  # type: ignore[attr-defined]
    module = ReidModule(
        model,
        settings,
        steps_per_epoch=len(loader),
        teacher=teacher,
        validation=validation,
        together=Together(config.ranks if config.ddp.gather_embeddings else 1),
        ranks=config.ranks,
        input_size=(config.height, config.width),
        classes=torch.tensor(relabel(config.images)),
    )
    model.train()  # Lightning does not change the mode
    model.to(memory_format=torch.channels_last)
    validation_loader = validation and validation.loader(
        height=config.height, width=config.width, workers=config.workers, replicas=config.ranks
    )
    own = 1 if config.world is not None else config.devices
    with (
        freed_memory_kept(),
        channels_last_pooling_gradients(model),
        quiet_lightning(),
        worker_errors_as_own(),
        one_log(own, config.folder) as processes,
    ):
        callbacks = [*processes.callbacks, *_make_callbacks(model, config)]
        _make_trainer(config, callbacks, processes).fit(
            module,
            loader,
            validation_loader,
            ckpt_path=str(config.folder / LAST) if epochs_done else None,
            weights_only=True,
        )


def _training_loader(config: FitConfig) -> DataLoader[tuple[Tensor, int]]:
    settings, teacher = config.settings, config.teacher
    height, width = config.height, config.width
    if teacher is not None and teacher.input_size is not None:
        height, width = (
            max(pair) for pair in zip((height, width), teacher.input_size, strict=True)
        )
    return training_loader(
        config.images,
        augmentation=settings.augmentation,
        height=height,
        width=width,
        identities_per_batch=settings.identities_per_batch,
        images_per_identity=settings.images_per_identity,
        seed=config.seed,
        workers=config.workers,
        replicas=config.ranks,
        replicas_here=config.devices,
        cache=config.cache,
        neighbours=config.neighbours,
        places=teacher is not None and teacher.table is not None,
    )


def _make_callbacks(model: nn.Module, config: FitConfig) -> list[Callback]:
    """Make the callbacks in the order in which Lightning calls them."""
    settings, teacher = config.settings, config.teacher
    callbacks: list[Callback] = [
        EpochLog(config.label, config.seed),
        StopAtDivergence(config.label, config.folder),
    ]
    if settings.frozen_epochs:
        logits = settings.losses.cross_entropy or (teacher is not None and teacher.settings.logits)
        layers = match_layers(model, settings.frozen_layers, classifier_learns=bool(logits))
        callbacks.append(FreezeLayers(layers, settings.frozen_epochs))
    if settings.ema_decay:
        callbacks.append(average_weights(settings.ema_decay))
    keep_last = ModelCheckpoint(
        dirpath=config.folder,
        filename=Path(LAST).stem,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks += [keep_last, *config.callbacks, MetricLog(config.folder, config.log)]
    if config.validation is None:
        return callbacks
    keep_best = KeepBest(
        dirpath=config.folder,
        filename=Path(BEST).stem,
        monitor=METRIC,
        mode="max",
        every_n_epochs=1,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    callbacks.append(keep_best)
    if settings.patience:
        callbacks.append(
            EarlyStopping(
                METRIC, mode="max", patience=settings.patience, check_on_train_epoch_end=False
            )
        )
    return callbacks


def _make_trainer(
    config: FitConfig, callbacks: list[Callback], processes: Processes
) -> lightning.Trainer:
    settings, world = config.settings, config.world
    plugins: list[Any] = [AtomicCheckpointIO()]
    strategy: Strategy | str = "auto"
    if config.ranks > 1:
        strategy = processes.strategy(finds_unused(config))
        if config.ddp.sync_batchnorm:
            plugins.append(SyncBatchNorm())
    if world is not None:
        # One process trains alone where the others wait, whatever the launcher says of them.
        together = config.ranks > 1
        plugins.append(world.launch.cluster_environment() if together else LightningEnvironment())
    return lightning.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=strategy,
        max_epochs=settings.epochs,
        check_val_every_n_epoch=min(settings.validate_every, settings.epochs),
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip or None,
        callbacks=callbacks,
        plugins=plugins,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn",
        use_distributed_sampler=False,
    )

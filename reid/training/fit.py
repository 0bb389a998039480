"""Train a model; go on from the last whole epoch if there is one."""

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from reid.data.loaders import training_loader
from reid.data.records import Picture
from reid.seeding import derive_seed
from reid.training.checkpoint_io import AtomicCheckpointIO
from reid.training.distillation import Teacher
from reid.training.layers import FreezeLayers, match_layers
from reid.training.module import ReidModule
from reid.training.settings import TrainingSettings

LAST = "last.ckpt"

logger = logging.getLogger(__name__)


class EpochLog(Callback):
    """Log a line an epoch: loss, learning rate, pictures a second, time left."""

    def __init__(self, label: str, seed: int) -> None:
        self._label = label
        self._seed = seed
        self._started = 0.0
        self._batches = 0

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock, and seed what is drawn on the fly as a function of the epoch."""
        del pl_module
        self._started = time.monotonic()
        torch.manual_seed(derive_seed(self._seed, "fly", trainer.current_epoch))

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the line."""
        del pl_module
        seconds = time.monotonic() - self._started
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        loss = float(trainer.callback_metrics["loss"])
        rates = dict.fromkeys(f"{g['lr']:.2e}" for g in trainer.optimizers[0].param_groups)
        logger.info(
            "%s: epoch %d/%d, loss %.3f, learning rate %s, %.0f s, %.0f s left",
            self._label, epoch, epochs, loss, " and ".join(rates), seconds,
            seconds * (epochs - epoch),
        )  # fmt: skip


def fit(
    model: nn.Module,
    pictures: Sequence[Picture],
    settings: TrainingSettings,
    *,
    height: int,
    width: int,
    seed: int,
    folder: Path,
    label: str,
    workers: int = 0,
    accelerator: str = "auto",
    teacher: Teacher | None = None,
) -> None:
    """Train a model in place.

    After every epoch the whole state is written to ``folder``. Called again with the same
    arguments after a kill, it goes on from there and ends with the same weights, bit for bit: all
    that is drawn is a function of the seed and the epoch.

    Args:
        model: returns (logits, embeddings) in training mode.
        pictures: the training set.
        settings: how.
        height: input rows.
        width: input columns.
        seed: of every draw.
        folder: where the state between epochs is kept.
        label: names the training in the log.
        workers: processes that load pictures; does not change the result.
        accelerator: Lightning's name of the device kind.
        teacher: what to imitate, if anything.

    Raises:
        TrainingError: the training set is too small for a batch, or the layers to freeze are not
            there.
        DataError: a picture cannot be decoded.
    """
    if settings.epochs == 0:
        return
    loader = training_loader(
        pictures,
        augmentation=settings.augmentation,
        height=height,
        width=width,
        identities_per_batch=settings.identities_per_batch,
        pictures_per_identity=settings.pictures_per_identity,
        seed=seed,
        workers=workers,
    )
    module = ReidModule(model, settings, steps_per_epoch=len(loader), teacher=teacher)
    model.train()  # Lightning leaves the mode as it finds it
    model.to(memory_format=torch.channels_last)
    last = folder / LAST
    if last.exists():
        done = _epochs_done(last, len(loader))
        logger.info("%s: going on after epoch %d (%s)", label, done, last)
        # Lightning starts the loader's workers before it names the epoch to the sampler.
        loader.sampler.set_epoch(done)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # Lightning advises more workers and warns of its own internals; neither is the user's.
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="torch")
        callbacks = [EpochLog(label, seed), *_freezing(model, settings, teacher)]
        trainer = _make_trainer(settings, folder, accelerator, callbacks)
        if teacher is not None:
            teacher.model.to(trainer.strategy.root_device).to(memory_format=torch.channels_last)
        trainer.fit(
            module, loader, ckpt_path=str(last) if last.exists() else None, weights_only=True
        )
    model.cpu().to(memory_format=torch.contiguous_format)
    if teacher is not None:
        teacher.model.cpu()


def _epochs_done(checkpoint: Path, steps_per_epoch: int) -> int:
    # Written at the end of an epoch, while Lightning still counts it as the current one.
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return int(content["global_step"]) // steps_per_epoch


def _freezing(
    model: nn.Module, settings: TrainingSettings, teacher: Teacher | None
) -> list[Callback]:
    if not settings.frozen_epochs:
        return []
    logits = settings.losses.cross_entropy or (teacher is not None and teacher.settings.logits)
    layers = match_layers(model, settings.frozen_layers, classifier_learns=bool(logits))
    return [FreezeLayers(layers, settings.frozen_epochs)]


def _make_trainer(
    settings: TrainingSettings, folder: Path, accelerator: str, callbacks: list[Callback]
) -> lightning.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    keep_last = ModelCheckpoint(
        dirpath=folder,
        filename=LAST.removesuffix(".ckpt"),
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=settings.epochs,
        precision=settings.precision,
        gradient_clip_val=settings.gradient_clip or None,
        callbacks=[*callbacks, keep_last],
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        deterministic="warn",
        use_distributed_sampler=False,
    )

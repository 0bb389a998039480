"""Quantization-aware training of the stage ``quantize``."""

import copy
import io
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, fx, nn

from pipeline.context import StageContext
from pipeline.stage_results import QatTraining
from pipeline.stages.quantize import QatSettings, QuantizeStage
from pipeline.teacher_embeddings import batch_neighbours
from quantize.agreement import Reference
from quantize.calibrate import Calibrated
from quantize.qat import freeze_batchnorm, freeze_observers, prepare_qat, trained_calibration
from quantize.static import convert_calibrated, with_corrected_biases
from reid_edge.core.checksums import write_checked
from reid_edge.core.errors import DivergenceError
from reid_edge.data.schema import Sample
from reid_edge.models.checkpoint import read_torch_file
from reid_edge.training.after_epoch import ShowBatches
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig

NEAREST = "nearest.ckpt"

logger = logging.getLogger(__name__)


class Student(nn.Module):
    """The trained module: it returns (logits, embeddings) in training mode, else embeddings.

    Args:
        embed: from images (N, 3, H, W) to embeddings (N, D), with rounding.
        classifier: of the float model.
    """

    def __init__(self, embed: fx.GraphModule, classifier: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map images (N, 3, H, W) to embeddings (N, D), and logits in training mode."""
        embeddings = self.embed(x)
        return (self.classifier(embeddings), embeddings) if self.training else embeddings


class FreezeStatistics(Callback):
    """Freeze ranges and BatchNorm statistics after the numbers of epochs in the settings.

    The frozen parts depend on the epoch alone, so a resumed training freezes the same ones.
    """

    def __init__(self, student: Student, settings: QatSettings) -> None:
        self._student = student
        self._settings = settings

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Freeze the parts whose number of epochs is reached."""
        del pl_module
        if trainer.current_epoch >= self._settings.observer_epochs:
            freeze_observers(self._student.embed)
        if trainer.current_epoch >= self._settings.batchnorm_epochs:
            freeze_batchnorm(self._student.embed)


class KeepNearest(Callback):
    """Judge the student after every epoch and keep the best one's weights in a file.

    Args:
        student: being trained.
        judge: returns the student's error (the smaller, the better); infinity: it diverged.
        path: of the file. It is written before the state that an interrupted training resumes
            from. If an epoch is trained again, the file holds that epoch or a worse one.
        label: names the training in the log.
    """

    def __init__(
        self, student: Student, judge: Callable[[fx.GraphModule], float], path: Path, label: str
    ) -> None:
        self._student = student
        self._judge = judge
        self._path = path
        self._label = label
        self.errors: list[float] = []

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Judge the student; write its weights if it is better than in all epochs before."""
        del trainer, pl_module
        judged = self._judge(self._student.embed)
        # Overflowed statistics give NaN, which must not count as the smallest error.
        error = judged if math.isfinite(judged) else math.inf
        if error < min(self.errors, default=math.inf):
            buffer = io.BytesIO()
            torch.save({"state_dict": self._student.embed.state_dict()}, buffer)
            write_checked(self._path, buffer.getbuffer())
        self.errors.append(error)
        logger.info(
            "%s: epoch %d, 1 - cosine to the float model %.5f", self._label, len(self.errors), error
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the errors so far, for a resumed training."""
        return {"errors": list(self.errors)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the errors of an interrupted training."""
        self.errors = list(state_dict["errors"])

    def restore(self) -> int | None:
        """Give the student the weights of its best epoch.

        Returns:
            That epoch, counted from 1, or None if all epochs diverged.
        """
        least = min(self.errors, default=math.inf)
        if least == math.inf:
            return None
        self._student.embed.load_state_dict(read_torch_file(self._path)["state_dict"])
        return self.errors.index(least) + 1


def train_qat(
    context: StageContext[QuantizeStage],
    model: nn.Module,
    calibrated: Calibrated,
    reference: Reference,
    held_back: Sequence[Sample],
) -> tuple[Calibrated | None, QatTraining]:
    """Train the float model's int8 form with the float model as teacher.

    An interrupted training resumes after its last whole epoch and ends with the same bits.

    Args:
        context: of the stage.
        model: the float model; it is left as it is.
        calibrated: the ranges to start from.
        reference: the float model's embeddings of the images held back.
        held_back: these images, which are not trained on.

    Returns:
        The weights and ranges of the best epoch (None if none was finite), and the errors by
        epoch; they end with the epoch in which the training diverged.
    """
    settings = context.settings
    if settings.bias_correction:
        calibrated = with_corrected_biases(calibrated)
    classifier = copy.deepcopy(model.get_submodule("classifier"))
    student = Student(prepare_qat(model, calibrated), classifier)

    def judge(embed: fx.GraphModule) -> float:
        if not all(torch.isfinite(value).all() for value in embed.parameters()):
            return math.inf
        trained = trained_calibration(embed, calibrated)
        int8 = convert_calibrated(trained, bias_correction=False)
        return reference.agreement(int8, settings.engine).mean_cosine_error

    best = KeepNearest(student, judge, context.folder / NEAREST, context.stage)
    height, width = context.input_size
    without = set(held_back)
    images = [image for image in context.data.train if image not in without]
    config = FitConfig(
        images=images,
        settings=settings.qat,
        height=height,
        width=width,
        seed=context.seed("draws"),
        folder=context.folder,
        label=context.stage,
        teacher=Teacher(model, settings.qat.distillation),
        neighbours=batch_neighbours(
            context, images, settings.qat.identities_per_batch, settings.qat.images_per_identity
        ),
        callbacks=[
            FreezeStatistics(student, settings.qat),
            best,
            ShowBatches(context.stage, context.work),
        ],
        log=context.config.metric_files,
        accelerator=context.device,
        workers=context.config.data.workers,
        world=context.world,
    )
    try:
        fit(student, config)
    except DivergenceError as error:
        logger.warning("%s", error)
        best.errors.append(math.inf)
        student.cpu().to(memory_format=torch.contiguous_format)
    epoch = best.restore()
    errors = [error if math.isfinite(error) else None for error in best.errors]
    training = QatTraining(mean_cosine_error_by_epoch=tuple(errors), best_epoch=epoch)
    return (trained_calibration(student.embed, calibrated) if epoch else None), training

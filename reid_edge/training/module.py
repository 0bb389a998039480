"""The training step, for Lightning."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from reid_edge.inference.embedder import check_finite
from reid_edge.models.architecture import CLASSIFIER, NECK
from reid_edge.training.distillation import (
    OutputRecorder,
    Teacher,
    at_size,
    distillation_terms,
    hint_terms,
    run_teacher,
)
from reid_edge.training.fit_state import RANKS
from reid_edge.training.gathering import ALONE, Together
from reid_edge.training.layers import split_head
from reid_edge.training.losses import SupervisedLoss
from reid_edge.training.schedule import Schedule, warmup_cosine, warmup_step
from reid_edge.training.settings import TrainingSettings
from reid_edge.training.validation import METRIC, Validation


class ReidModule(lightning.LightningModule):
    """Train a ReID model, with or without a teacher.

    Args:
        model: returns (logits, embeddings) in training mode.
        settings: losses, optimiser and schedule.
        steps_per_epoch: batches in an epoch, for the schedule.
        teacher: the model to imitate, if any.
        validation: the images of the validation loader, if there is one.
        together: ranks whose batches count as one in losses that compare embeddings.
        ranks: processes that train together.
        input_size: (height, width) of the model, where batches may have another one, see
            `Teacher.input_size`; None: that of the batches.
        classes: of all training images (N,), in the order of the teacher's table; batches have the
            places of their images in the place of classes where the teacher has a table.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainingSettings,
        *,
        steps_per_epoch: int,
        teacher: Teacher | None = None,
        validation: Validation | None = None,
        together: Together = ALONE,
        ranks: int = 1,
        input_size: tuple[int, int] | None = None,
        classes: Tensor | None = None,
    ) -> None:
        super().__init__()
        self._classes = classes
        self._input_size = input_size
        self.model = model
        self._settings = settings
        self._steps_per_epoch = steps_per_epoch
        self._together = together
        self._ranks = ranks
        self._other_steps = False
        self._loss = SupervisedLoss(settings.losses, together)
        # In a tuple, so that the teacher is neither trained nor saved with the student.
        self._teacher = (teacher,) if teacher is not None else ()
        self.projection = make_projection(model, teacher)
        self._validation = validation
        self._embeddings: list[Tensor] = []
        self.terms: dict[str, Tensor] = {}

    def on_train_start(self) -> None:
        """Move the teacher to the student's device, and apply a learning rate that was changed."""
        for teacher in self._teacher:
            teacher.model.to(self.device).to(memory_format=torch.channels_last)
        # A training that diverged may be resumed with another rate; its state holds the former one.
        for config in self.trainer.lr_scheduler_configs:
            apply_learning_rates(config.scheduler, self._settings)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say how many processes have trained together."""
        checkpoint[RANKS] = self._ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note whether the epochs so far had another number of steps."""
        self._other_steps = checkpoint.get(RANKS, self._ranks) != self._ranks

    def on_train_epoch_start(self) -> None:
        """Put the schedule where this epoch begins, if those before had another number of steps."""
        if self._other_steps:
            self._other_steps = False
            step = self.trainer.current_epoch * self._steps_per_epoch
            for config in self.trainer.lr_scheduler_configs:
                move_schedule(config.scheduler, step)

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """Return the sum of all terms for images (B, 3, H, W) and classes (B,)."""
        images, classes = batch
        # Depthwise and pointwise layers run up to 1.5 times as fast with the channels innermost.
        images = images.contiguous(memory_format=torch.channels_last)
        terms = self._terms(images, classes)
        loss = torch.stack(list(terms.values())).sum()
        self.terms = {name: value.detach() for name, value in terms.items()}
        for name, value in {"loss": loss, **{f"loss/{n}": v for n, v in terms.items()}}.items():
            self.log(name, value, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Give all ranks the BatchNorm statistics of rank zero, which are those that are kept."""
        if self._ranks > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, images: Tensor, _batch_index: int) -> None:
        """Embed images (B, 3, H, W) in full precision, as the later evaluation does."""
        with torch.autocast(images.device.type, enabled=False):
            embeddings = self.model(images.contiguous(memory_format=torch.channels_last))
        self._embeddings.append(embeddings.float().cpu())

    def on_validation_epoch_end(self) -> None:
        """Log the mAP of the validation identities."""
        assert self._validation is not None, "Lightning validates only where there is a loader"
        embeddings = torch.cat(self._embeddings) if self._embeddings else torch.empty(0, 0)
        self._embeddings.clear()
        if self._ranks > 1:
            embeddings = self._validation.collect(embeddings, self._ranks, self.device)
        check_finite(embeddings.numpy())
        self.log(METRIC, self._validation.mean_average_precision(embeddings))

    def _terms(self, images: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses by name: supervised ones, and distillation with a teacher."""
        if not self._teacher:
            logits, embeddings = self.model(images)
            return self._loss(logits, embeddings, classes)  # type: ignore[no-any-return]
        teacher = self._teacher[0]
        seen = at_size(images, teacher.input_size)
        images = at_size(images, self._input_size)
        names = list(teacher.hints) if teacher.settings.hints else []
        # A model with a BNNeck returns the input of the neck in training mode, and its teacher, in
        # evaluation mode, the output of the neck.
        neck = [NECK] if isinstance(getattr(self.model, NECK, None), nn.Module) else []
        student_outputs = OutputRecorder(self.model, [*names, *neck])
        teacher_outputs = OutputRecorder(teacher.model, names)
        try:
            if teacher.table is not None:
                places = classes.cpu()
                teacher_embeddings = teacher.table[places].to(images.device)
                teacher_logits = None
                if self._classes is not None:
                    classes = self._classes[places].to(images.device)
            else:
                teacher_embeddings, teacher_logits = run_teacher(teacher.model, seen)
            logits, embeddings = self.model(images)
            terms: dict[str, Tensor] = self._loss(logits, embeddings, classes)
            own = student_outputs.outputs.get(NECK, embeddings)
            terms |= distillation_terms(
                teacher.settings,
                embeddings=own,
                projected=None if self.projection is None else self.projection(own),
                teacher_embeddings=teacher_embeddings,
                logits=logits,
                teacher_logits=teacher_logits,
                together=self._together,
            )
            hints = {name: teacher.hints[name] for name in names}
            terms |= hint_terms(
                teacher.settings.hints,
                hints,
                student_outputs.outputs,
                teacher_outputs.outputs,
                self._together,
            )
            return terms
        finally:
            student_outputs.detach()
            teacher_outputs.detach()

    def configure_optimizers(self) -> Any:
        """Make the optimiser and a schedule that steps with every batch."""
        optimizer = make_optimizer(self.model, self._settings, self.projection)
        schedule = LambdaLR(optimizer, make_schedule(self._settings, self._steps_per_epoch))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def make_schedule(settings: TrainingSettings, steps_per_epoch: int) -> Schedule:
    """Make the schedule of the settings: a function from step to factor of the peak rate."""
    total = settings.epochs * steps_per_epoch
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if settings.schedule == "step":
        milestones = [epoch * steps_per_epoch for epoch in settings.milestones]
        # The same limit that warmup_cosine applies.
        warmup = min(warmup, total // 2)
        return warmup_step(warmup_steps=warmup, milestones=milestones, gamma=settings.gamma)
    return warmup_cosine(warmup_steps=warmup, total_steps=total)


def apply_learning_rates(schedule: Any, settings: TrainingSettings) -> None:
    """Give a schedule the peak rates of the settings, if it has others."""
    rates = [settings.learning_rate, settings.head_learning_rate or settings.learning_rate]
    if schedule.base_lrs == rates:
        return
    schedule.base_lrs = rates
    for group, rate, factor in zip(
        schedule.optimizer.param_groups, rates, schedule.lr_lambdas, strict=True
    ):
        group["initial_lr"], group["lr"] = rate, rate * factor(schedule.last_epoch)


def move_schedule(schedule: Any, step: int) -> None:
    """Put a schedule, and the rates of its optimiser, at a step."""
    schedule.last_epoch = step
    rates = [
        base * factor(step)
        for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def make_projection(model: nn.Module, teacher: Teacher | None) -> nn.Linear | None:
    """Make the layer from a student's embedding to its teacher's size; None if they are the same.

    It begins as a random rotation, always the same one.
    """
    classifier = getattr(model, CLASSIFIER, None)
    if teacher is None or teacher.dimensions is None or not isinstance(classifier, nn.Linear):
        return None
    size = classifier.in_features
    if size == teacher.dimensions:
        return None
    projection = nn.Linear(size, teacher.dimensions, bias=False)
    generator = torch.Generator().manual_seed(0)
    nn.init.orthogonal_(projection.weight, generator=generator)
    return projection


def make_optimizer(
    model: nn.Module, settings: TrainingSettings, projection: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Make the optimiser of the settings; its two groups are the backbone and the head.

    A projection to the teacher's size learns as the head does.
    """
    backbone, head = split_head(model)
    if projection is not None:
        head = [*head, *projection.parameters()]
    rate, decay = settings.learning_rate, settings.weight_decay
    head_rate = settings.head_learning_rate or rate
    groups: Any = [{"params": backbone}, {"params": head, "lr": head_rate}]
    # Without the argument PyTorch chooses between its other two ways.
    fused: Any = {"fused": True} if settings.fused_optimizer else {}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=decay, **fused)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, **fused)
    amsgrad = settings.optimizer == "amsgrad"
    return torch.optim.Adam(groups, lr=rate, weight_decay=decay, amsgrad=amsgrad, **fused)

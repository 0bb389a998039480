"""The losses by which a student imitates its teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from reid_edge.training.gathering import ALONE, Together
from reid_edge.training.settings import DistillationSettings


@dataclass(frozen=True)
class Teacher:
    """A trained model that a student imitates.

    Attributes:
        model: the teacher; it stays in evaluation mode and its weights do not change.
        settings: the weights of the terms.
        hints: names of modules whose outputs are compared, each with the channels of the
            teacher's output that the student still has (C_student,), or None for all.
        input_size: (height, width) of the teacher's images; None: that of the student's. Images are
            loaded at the larger size of both, and made smaller for the other one.
        dimensions: of its embedding, where that may be another size than the student's. Then a
            linear layer that is trained along, and dropped afterwards, brings the student's
            embedding to the teacher's size.
        table: its embeddings (N, D) of the training images as they are, in the place of its outputs
            of the augmented images; the model is not run then.
    """

    model: nn.Module
    settings: DistillationSettings
    hints: Mapping[str, Tensor | None] = field(default_factory=dict)
    input_size: tuple[int, int] | None = None
    dimensions: int | None = None
    table: Tensor | None = None

    @property
    def has_terms(self) -> bool:
        """Whether any term has a weight; the weight of hints counts only if there are hints."""
        without_hints = self.settings.model_dump(exclude={"hints"})
        return any(without_hints.values()) or bool(self.settings.hints and self.hints)


class OutputRecorder:
    """Keep the last output of named modules until :meth:`detach`."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.outputs: dict[str, Tensor] = {}

        def keep(
            name: str, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor
        ) -> None:
            self.outputs[name] = output

        modules = dict(model.named_modules())
        self._handles: list[RemovableHandle] = [
            modules[name].register_forward_hook(partial(keep, name)) for name in names
        ]

    def detach(self) -> None:
        """Stop recording and forget what was recorded."""
        for handle in self._handles:
            handle.remove()
        self.outputs.clear()


def at_size(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Return images (B, 3, H, W) at another size, with an antialiased bilinear filter."""
    if size is None or tuple(images.shape[-2:]) == size:
        return images
    resized = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)


def relative_squared_error(value: Tensor, target: Tensor, together: Together = ALONE) -> Tensor:
    """Return ||value - target||^2 / ||target||^2 over the whole batch.

    The mean of what the ranks return is that of the batches of all.
    """
    value, target = value.float(), target.float()
    norm = together.mean(target.pow(2).sum())
    return (value - target).pow(2).sum() / norm.clamp_min(1e-12)


def similarity_error(embeddings: Tensor, target: Tensor, together: Together = ALONE) -> Tensor:
    """Return the mean squared error of the batch's cosine similarity matrix (B, B).

    Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, with cosines.
    """
    student = F.normalize(together.rows(embeddings.float()), dim=1)
    teacher = F.normalize(together.rows(target.float()), dim=1)
    # Autocast would compute the product in half precision.
    with torch.autocast(embeddings.device.type, enabled=False):
        return F.mse_loss(student @ student.T, teacher @ teacher.T)


def distillation_terms(
    settings: DistillationSettings,
    *,
    embeddings: Tensor,
    teacher_embeddings: Tensor,
    logits: Tensor | None = None,
    teacher_logits: Tensor | None = None,
    together: Together = ALONE,
    projected: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the weighted terms on embeddings (B, D) and logits (B, num_classes) by name.

    ``together`` are the ranks whose batches count as one. Where the teacher's embeddings have
    another size, ``projected`` (B, D_teacher) are the student's at that size; the similarities of a
    batch are those of its own embeddings.
    """
    at_teachers_size = embeddings if projected is None else projected
    terms: dict[str, Tensor] = {}
    if settings.embedding:
        error = relative_squared_error(at_teachers_size, teacher_embeddings, together)
        terms["embedding"] = settings.embedding * error
    if settings.cosine:
        cosine = F.cosine_similarity(at_teachers_size.float(), teacher_embeddings.float()).mean()
        terms["cosine"] = settings.cosine * (1 - cosine)
    if settings.similarity:
        error = similarity_error(embeddings, teacher_embeddings, together)
        terms["similarity"] = settings.similarity * error
    if settings.logits and logits is not None and teacher_logits is not None:
        divergence = F.kl_div(
            logits.float().log_softmax(1),
            teacher_logits.float().log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        terms["logits"] = settings.logits * divergence
    return terms


def hint_terms(
    weight: float,
    hints: Mapping[str, Tensor | None],
    outputs: Mapping[str, Tensor],
    teacher_outputs: Mapping[str, Tensor],
    together: Together = ALONE,
) -> dict[str, Tensor]:
    """Return the weighted relative squared error of every hinted output at the kept channels.

    Args:
        weight: of every term.
        hints: kept channels (C_student,) by module name, or None for all.
        outputs: of the student's modules, (B, C_student, ...).
        teacher_outputs: of the teacher's modules, (B, C_teacher, ...).
        together: ranks whose batches count as one.
    """
    terms: dict[str, Tensor] = {}
    for name, kept in hints.items():
        target = teacher_outputs[name]
        if kept is not None:
            target = target.index_select(1, kept.to(target.device))
        error = relative_squared_error(outputs[name], target, together)
        terms[f"hint/{name}"] = weight * error
    return terms


@torch.no_grad()
def run_teacher(teacher: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the teacher's embeddings (B, D) and, if it has a classifier, logits."""
    teacher.eval()
    embeddings = teacher(images)
    classifier = getattr(teacher, "classifier", None)
    return embeddings, classifier(embeddings) if isinstance(classifier, nn.Module) else None

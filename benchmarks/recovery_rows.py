"""What the recovery table compares: settings on top of the common ones, by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

USUAL_LOSSES = ("cross_entropy=1.0", "triplet=1.0")
NO_TEACHER = (
    "prune.teacher=false", "finetune.teacher=false",
    *(f"{stage}.losses.{loss}" for stage in ("prune.tuning", "finetune") for loss in USUAL_LOSSES),
)  # fmt: skip
NO_RECONSTRUCTION = ("prune.reconstruction_images=0",)
NO_RECALIBRATION = ("prune.recalibration_images=0",)
HINTS = ("prune.distillation.hints=1", "finetune.distillation.hints=1")


@dataclass(frozen=True)
class Row:
    """One way to a compact model.

    Attributes:
        says: what it is, for the table.
        overrides: ``key.path=value`` on top of the common settings.
        one_cut: everything is removed at once, and the passes of all cuts follow it.
        torch_pruning: Torch-Pruning chooses and removes the channels.
        from_scratch: the compact model starts from random weights; nothing is cut.
        uncut: the full-width model is trained further; nothing is cut.
    """

    says: str
    overrides: tuple[str, ...] = ()
    one_cut: bool = False
    torch_pruning: bool = False
    from_scratch: bool = False
    uncut: bool = False

    @property
    def cuts_nothing(self) -> bool:
        """Whether all passes belong to ``finetune``."""
        return self.from_scratch or self.uncut


ROWS: Mapping[str, Row] = {
    "ours": Row("ours"),
    "no_reconstruction": Row("without reconstruction", NO_RECONSTRUCTION),
    "hints": Row("with stage hints", HINTS),
    "no_distillation": Row("without any distillation", NO_TEACHER),
    "one_cut": Row("one cut instead of K", one_cut=True),
    "l2": Row("channels by L2, the rest as ours", ("prune.criterion=l2",)),
    "taylor": Row("channels by Taylor, the rest as ours", ("prune.criterion=taylor",)),
    "random": Row("random channels, the rest as ours", ("prune.criterion=random",)),
    "tp_usual": Row(
        "Torch-Pruning L2, one cut, usual fine-tune",
        (*NO_TEACHER, *NO_RECONSTRUCTION, *NO_RECALIBRATION),
        one_cut=True,
        torch_pruning=True,
    ),
    "tp_ours": Row("Torch-Pruning L2, our recovery", torch_pruning=True),
    "scratch": Row("random weights, our distillation", from_scratch=True),
    "uncut": Row("the full-width model itself, trained as ours, no cut", uncut=True),
}

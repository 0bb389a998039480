"""Sections ``prune`` and ``transfer``: the stages that cut channels."""

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.settings.base import Settings, Share
from pipeline.settings.target import Target
from prune.criteria import CRITERIA
from prune.widths import Schedule
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings


def _not_one(count: int) -> int:
    if count == 1:
        raise ValueError("one image has no statistics; give at least 2, or 0 to do without")
    return count


def _registered(name: str) -> str:
    CRITERIA.check(name)
    return name


CriterionName = Annotated[str, AfterValidator(_registered)]
*_others, _last = CRITERIA


class CutSettings(Settings):
    """What ranks channels, how a cut is mended and tuned; the stages that cut share it."""

    criterion: CriterionName = Field(
        "l2", description=f"what ranks channels: {', '.join(_others)} or {_last}"
    )
    criterion_images: int = Field(
        128,
        ge=2,
        description="training images for a criterion that needs images",
    )
    reconstruction_images: int = Field(
        128, ge=0, description="training images for least squares after surgery; 0: without"
    )
    recalibration_images: Annotated[int, AfterValidator(_not_one)] = Field(
        512, ge=0, description="training images for BatchNorm statistics; 0: without"
    )
    teacher: bool = Field(True, description="tune under the full-width model's eye")
    distillation: DistillationSettings = DistillationSettings()
    tuning: TrainingSettings


class PruneTuning(TrainingSettings):
    """The short fine-tune after each cut."""

    epochs: int = Field(3, ge=0, description="epochs after each cut")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak rate, anew after each cut")
    losses: LossSettings = LossSettings(cross_entropy=0.1, triplet=0.0)


class PruneStage(CutSettings):
    """Stage ``prune``: from full width to the target's widths in K iterations."""

    target: Target = Field(
        "osnet_x0_5",
        description="where to end: an architecture (`osnet_x0_5`), a share of the channels "
        "(`0.6`), a budget (`{macs: 0.3}`, or `parameters`, or `latency`; up to 1 it is a share of "
        "the full-width model's; with `widths: by_loss` or `uniform`), or a plan "
        "(`plan.json`)",
    )
    ratios: dict[str, Share] = Field(
        {},
        description="shares of channels to keep by pattern of layer names (`{conv2.*: 0.7}`), "
        "where the target is a share",
    )
    untouched: tuple[str, ...] = Field(
        (), description="patterns of layers never to cut, where the target is a share or a budget"
    )
    multiple: int = Field(
        1, ge=1, description="what widths are multiples of, where the target leaves them free"
    )
    iterations: int = Field(3, ge=1, description="K, how many cuts")
    schedule: Schedule = Field(
        "linear", description="equal cuts (linear) or equal shares of what is left (geometric)"
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="largest loss of mAP in an iteration (0.02: two points), on the identities "
        "that data.validation_share sets apart, or without it on query and gallery; an iteration "
        "that loses more is tuned longer, and if that fails the run goes back to the widths before "
        "it",
    )
    extra_tuning: int = Field(
        1, ge=0, description="how often an iteration beyond accuracy_budget is tuned once more"
    )
    tuning: PruneTuning = PruneTuning()


class TransferTuning(TrainingSettings):
    """The training after the one cut: long, at a low rate."""

    epochs: int = Field(30, ge=0, description="epochs after the cut")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak rate; low, the weights are taken")


class TransferStage(CutSettings):
    """Stage ``transfer``: the most important channels go into the target at once."""

    target: str = Field("osnet_x0_5", description="architecture whose widths to end at")
    teacher: bool = Field(False, description="train under the full-width model's eye")
    tuning: TransferTuning = TransferTuning()

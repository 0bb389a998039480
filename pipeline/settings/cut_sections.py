"""Sections ``prune`` and ``transfer``: the stages that cut channels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

from pydantic import AfterValidator, Field, field_validator

from pipeline.settings.section import ArchitectureName, Settings, Share, registered
from pipeline.settings.target import PLAN_SUFFIX, Target, WidthBudget
from prune.criteria import CRITERIA
from prune.plans import Schedule
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings

CriterionName = Annotated[str, AfterValidator(lambda name: registered(name, CRITERIA))]
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
        128,
        ge=0,
        description="training images for reconstruction by least squares after each cut; 0: none",
    )
    recalibration_images: int = Field(
        512,
        ge=0,
        description="training images for the BatchNorm statistics after each cut; 0: none",
    )
    teacher: bool = Field(True, description="tune with the full-width model as teacher")
    distillation: DistillationSettings = DistillationSettings()
    tuning: TrainingSettings

    @field_validator("recalibration_images")
    @classmethod
    def _check_statistics(cls, count: int) -> int:
        if count == 1:
            raise ValueError("one image has no statistics; give at least 2, or 0 to do without")
        return count


class PruneTuning(TrainingSettings):
    """The short fine-tune after each cut."""

    epochs: int = Field(3, ge=0, description="epochs after each cut")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate after each cut")
    losses: LossSettings = LossSettings(cross_entropy=0.1, triplet=0.0)


class PruneStage(CutSettings):
    """Stage ``prune``: from full width to the target's widths in K iterations."""

    target: Target = Field(
        "osnet_x0_5",
        description="target widths: an architecture (`osnet_x0_5`), a share of the channels "
        "(`0.6`), a budget (`{macs: 0.3}`, or `parameters`, or `latency`; a value up to 1 is a "
        "share of the full-width model's; with `widths: by_loss` or `uniform`), milliseconds in a "
        "runtime (`{latency_ms: 2.0, runtime: onnx_int8, threads: 1}`), or a plan file "
        "(`plan.json`)",
    )
    ratios: dict[str, Share] = Field(
        {},
        description="shares of channels to keep by pattern of layer names (`{conv2.*: 0.7}`), "
        "if the target is a share",
    )
    untouched: tuple[str, ...] = Field(
        (), description="patterns of layers that are not cut, if the target is a share or a budget"
    )
    multiple: int = Field(
        1,
        ge=1,
        description="widths are multiples of this number, if the target is a share or a budget; "
        "with latency_ms, 1 means the multiple that the runtime is fast with",
    )
    iterations: int = Field(3, ge=1, description="K, number of cuts")
    schedule: Schedule = Field(
        "linear",
        description="equal cuts (linear) or equal shares of the remaining channels (geometric)",
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="largest loss of mAP in an iteration (0.02: two points), on the identities "
        "of data.validation_share, or without it on query and gallery. An iteration that loses "
        "more is tuned again; if it still loses more, the stage ends at the widths before it; "
        "none: no limit",
    )
    extra_tuning: int = Field(
        1, ge=0, description="how many more times an iteration beyond accuracy_budget is tuned"
    )
    tuning: PruneTuning = PruneTuning()

    @property
    def measures_latency(self) -> bool:
        """Return whether latency decides about the widths."""
        target = self.target
        return self.measures_latency_share or (
            isinstance(target, WidthBudget) and target.latency_ms is not None
        )

    @property
    def measures_latency_share(self) -> bool:
        """Return whether the latency in eager PyTorch on this machine decides about the widths."""
        return isinstance(self.target, WidthBudget) and self.target.latency is not None

    @property
    def table_path(self) -> Path | None:
        """Return the file of latencies on a device that the target names, if it names one."""
        return self.target.table if isinstance(self.target, WidthBudget) else None

    @property
    def plan_path(self) -> Path | None:
        """Return the plan file that the target names, if it names one."""
        target = self.target
        is_plan = isinstance(target, str) and target.endswith(PLAN_SUFFIX)
        return Path(str(target)) if is_plan else None


class TransferTuning(TrainingSettings):
    """The training after the one cut: long, at a low rate."""

    epochs: int = Field(30, ge=0, description="epochs after the cut")
    learning_rate: float = Field(
        3.5e-4, gt=0, description="peak learning rate; low, because the weights are trained"
    )


class TransferStage(CutSettings):
    """Stage ``transfer``: the most important channels go into the target at once."""

    target: ArchitectureName = Field(
        "osnet_x0_5", description="architecture with the target widths"
    )
    teacher: bool = Field(False, description="train with the full-width model as teacher")
    tuning: TransferTuning = TransferTuning()

    # What the settings of ``prune`` choose.
    measures_latency: ClassVar[bool] = False
    plan_path: ClassVar[Path | None] = None
    ratios: ClassVar[Mapping[str, float]] = {}
    untouched: ClassVar[tuple[str, ...]] = ()
    multiple: ClassVar[int] = 1
    iterations: ClassVar[int] = 1
    schedule: ClassVar[Schedule] = "linear"
    accuracy_budget: ClassVar[float | None] = None
    extra_tuning: ClassVar[int] = 0


CutStage = TransferStage | PruneStage
C = TypeVar("C", bound=CutStage)


def stock_target(settings: CutStage) -> str | None:
    """Return the architecture that a stage ends at, or None if the widths are no architecture's."""
    target = settings.target
    return target if isinstance(target, str) and target in ARCHITECTURES else None

"""Stage ``transfer``: put the most important channels into the target at once, then train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.results import StageResult
from pipeline.settings.cut import TransferStage
from pipeline.stage import Stage, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir


def run(context: StageContext[TransferStage]) -> StageResult:
    """Cut once to the target's widths, train, evaluate."""
    from pipeline.stages.cutting import cut_to_target

    return cut_to_target(context, TRANSFER)


def _trainings(config: Config) -> list[Training]:
    settings = config.of(TRANSFER)
    distillation = settings.distillation if settings.teacher else None
    return [Training("transfer.tuning", settings.tuning, distillation)]


def _check(config: Config) -> None:
    from pipeline.widths import check_reachable

    check_reachable(config, TRANSFER)


def _show_plan(config: Config, run: RunDir, plan: Plan) -> Sequence[RenderableType]:
    from pipeline.stages.cutting import planned_widths

    return planned_widths(config, run, plan, TRANSFER)


TRANSFER: Stage[TransferStage] = Stage(
    name="transfer",
    summary="put the most important channels into a narrower architecture at once, then train",
    settings=TransferStage,
    run=run,
    model="changes",
    cuts=True,
    architecture=lambda config: config.of(TRANSFER).target,
    trainings=_trainings,
    check=_check,
    unused=lambda config: config.of(TRANSFER).unused("transfer"),
    show_plan=_show_plan,
)

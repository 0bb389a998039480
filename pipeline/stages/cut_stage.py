"""The declaration that the stages ``prune`` and ``transfer`` share: both cut to a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.settings.cut_sections import C, PruneStage, stock_target
from pipeline.stage import JsonDict, NamedFile, Stage, StageWork, training_work

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir
    from pipeline.stage_results import StageResult
    from pipeline.stages.iteration import Cutter
    from reid_edge.data.schema import ReidData

# Evaluations within a cut: before it (the first), after each of its steps, and after the tuning.
EVALUATIONS_OF_A_CUT = 4


def cut_stage(
    name: str,
    summary: str,
    settings: type[C],
    *,
    cutter: Cutter | None = None,
    version: str = "",
    default: bool = False,
    counted: Callable[[Config], JsonDict] | None = None,
    chooses_by_accuracy: Callable[[C], bool] = lambda _: False,
    files: Callable[[C], Sequence[NamedFile]] = lambda _: (),
    unused: Callable[[Config], Iterable[str]] = lambda _: (),
) -> Stage[C]:
    """Return a stage that takes the full-width model to the widths of its target.

    Args:
        name: see :class:`pipeline.stage.Stage` for this and for the arguments that follow.
        summary: see there.
        settings: see there.
        cutter: cuts a model to given widths; none: :func:`prune.surgery.cut`.
        version: see there.
        default: see there.
        counted: see there.
        chooses_by_accuracy: see there.
        files: see there.
        unused: see there.
    """

    def run(context: StageContext[C]) -> StageResult:
        """Take the model to the target's widths."""
        from pipeline.stages.cutting import cut_to_target

        return cut_to_target(context, stage, cutter)

    def check(config: Config) -> None:
        from pipeline.target_widths import check_reachable

        check_reachable(config, stage)

    def work(config: Config, data: ReidData) -> StageWork:
        section: object = config.of(stage)
        cuts = section.iterations if isinstance(section, PruneStage) else 1
        one = training_work(stage.all_trainings(config), data)
        return replace(
            one,
            trained=cuts * one.trained,
            evaluated=(EVALUATIONS_OF_A_CUT * cuts + 1) * one.evaluated,
        )

    def show_plan(config: Config, run: RunDir, plan: Plan) -> Sequence[RenderableType]:
        from pipeline.stages.cutting import planned_widths

        return planned_widths(config, run, plan, stage)

    stage = Stage(
        name=name,
        summary=summary,
        settings=settings,
        run=run,
        model="changes",
        cuts=True,
        default=default,
        version=version,
        architecture=lambda config: stock_target(config.of(stage)),
        counted=counted,
        chooses_by_accuracy=chooses_by_accuracy,
        files=files,
        work=work,
        check=check,
        unused=unused,
        show_plan=show_plan,
    )
    return stage

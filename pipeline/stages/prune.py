"""Stage ``prune``: from full width to the target's widths in K iterations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.results import StageResult
from pipeline.settings.cut import PruneStage
from pipeline.settings.target import WidthBudget
from pipeline.stage import JsonDict, NamedFile, Stage, Training
from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir
    from pipeline.stages.iteration import Cutter

PLAN_INPUT = "plan"


def prune_stage(cutter: Cutter | None = None, *, version: str = "") -> Stage[PruneStage]:
    """Return the stage.

    Args:
        cutter: cuts a model to given widths, in the place of :func:`prune.surgery.cut`.
        version: names the cutter; a run that was made with another one is stale.

    Raises:
        PipelineError: a cutter has no version.
    """
    if cutter is not None and not version:
        raise PipelineError("a cutter needs a version, so that results of another are not reused")

    def run(context: StageContext[PruneStage]) -> StageResult:
        """Take the model to the target's widths."""
        from pipeline.stages.cutting import cut_to_target

        return cut_to_target(context, PRUNE, cutter)

    return Stage(
        name="prune",
        summary="take the model to the target's widths in K iterations",
        settings=PruneStage,
        run=run,
        model="changes",
        cuts=True,
        default=True,
        version=version,
        architecture=_architecture,
        counted=_counted,
        chooses_by_accuracy=lambda settings: settings.accuracy_budget is not None,
        files=_files,
        trainings=_trainings,
        check=_check,
        unused=_unused,
        show_plan=_show_plan,
    )


def _counted(config: Config) -> JsonDict:
    settings = config.of(PRUNE)
    own = settings.model_dump(mode="json")
    if _files(settings):
        own["target"] = "a plan file"  # which counts by its content, see ``files``
    target = settings.target
    if isinstance(target, WidthBudget) and target.latency is not None:
        return {"latency": {"threads": config.latency.threads}, "prune": own}
    return {"prune": own}


def _files(settings: PruneStage) -> list[NamedFile]:
    plan = settings.plan_path
    return [] if plan is None else [NamedFile(PLAN_INPUT, "prune.target", plan)]


def _trainings(config: Config) -> list[Training]:
    settings = config.of(PRUNE)
    distillation = settings.distillation if settings.teacher else None
    return [Training("prune.tuning", settings.tuning, distillation)]


def _check(config: Config) -> None:
    from pipeline.widths import check_reachable

    check_reachable(config, PRUNE)


def _unused(config: Config) -> Iterator[str]:
    settings = config.of(PRUNE)
    yield from settings.unused("prune")
    default = PruneStage.model_fields["extra_tuning"].default
    if settings.extra_tuning != default and settings.accuracy_budget is None:
        yield "prune.extra_tuning: not used, prune.accuracy_budget is not given"


def _architecture(config: Config) -> str | None:
    from pipeline.widths import stock_target

    return stock_target(config.of(PRUNE))


def _show_plan(config: Config, run: RunDir, plan: Plan) -> Sequence[RenderableType]:
    from pipeline.stages.cutting import planned_widths

    return planned_widths(config, run, plan, PRUNE)


PRUNE: Stage[PruneStage] = prune_stage()

"""Stage ``prune``: from full width to the target's widths in K iterations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.settings.cut_sections import PruneStage
from pipeline.stage import JsonDict, NamedFile, Stage
from pipeline.stages.cut_stage import cut_stage
from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.config import Config
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

    def counted(config: Config) -> JsonDict:
        settings = config.of(stage)
        own = settings.model_dump(mode="json")
        # Files count by their content, see ``files``.
        if settings.plan_path is not None:
            own["target"] = "a plan file"
        if settings.table_path is not None:
            own["target"]["table"] = "a table"
        if settings.measures_latency_share:
            return {"latency": {"threads": config.latency.threads}, "prune": own}
        return {"prune": own}

    def unused(config: Config) -> Iterator[str]:
        settings = config.of(stage)
        default = PruneStage.model_fields["extra_tuning"].default
        if settings.extra_tuning != default and settings.accuracy_budget is None:
            yield "prune.extra_tuning: not used, prune.accuracy_budget is not given"

    stage = cut_stage(
        "prune",
        "take the model to the target's widths in K iterations",
        PruneStage,
        cutter=cutter,
        version=version,
        default=True,
        counted=counted,
        chooses_by_accuracy=lambda settings: settings.accuracy_budget is not None,
        files=lambda settings: [
            NamedFile(name, key, path)
            for name, key, path in (
                (PLAN_INPUT, "prune.target", settings.plan_path),
                ("latency table", "prune.target.table", settings.table_path),
            )
            if path is not None
        ],
        unused=unused,
    )
    return stage


PRUNE: Stage[PruneStage] = prune_stage()

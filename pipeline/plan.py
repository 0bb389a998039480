"""What would run, what is reused, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config import Config
from pipeline.dependencies import MADE_ANEW, PARENT_INPUT, Made, stage_inputs, stage_settings
from pipeline.fingerprint import fingerprint
from pipeline.parents import parent_of
from pipeline.reuse import can_continue, why_not_reusable
from pipeline.run_dir import CHECKPOINT, KEPT, RunDir
from pipeline.settings.stage_names import STAGES
from reid_edge.core.errors import PipelineError

ANEW: Mapping[str, str] = {CHECKPOINT: MADE_ANEW, KEPT: MADE_ANEW}

Action = Literal["run", "continue", "reuse"]


@dataclass(frozen=True)
class Step:
    """What happens to one requested stage.

    Attributes:
        stage: its name.
        action: run it from its start, continue an interrupted one, or reuse a finished one.
        reason: why, for the reader.
        parent: the stage whose checkpoint it starts from.
        settings: the settings that count for it.
    """

    stage: str
    action: Action
    reason: str
    parent: str | None
    settings: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What a command will do.

    Attributes:
        steps: one a requested stage, in order.
        stale: finished stages that were not requested and no longer fit, with the reason.
    """

    steps: tuple[Step, ...]
    stale: dict[str, str]

    @property
    def to_run(self) -> tuple[str, ...]:
        """Return the stages that will run, from their start or from where they stopped."""
        return tuple(step.stage for step in self.steps if step.action != "reuse")


def make_plan(
    config: Config, run: RunDir, *, data_hash: str, restart_from: str | None = None
) -> Plan:
    """Compare what was asked for with what the run folder has.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        data_hash: of the images.
        restart_from: run this stage and those after it anew; once that was begun, it goes on.

    Raises:
        PipelineError: a stage that is needed is stale or missing and was not asked for.
    """
    if restart_from is not None and restart_from not in config.stages:
        raise PipelineError(
            f"--from {restart_from}: not among the stages to run ({','.join(config.stages)})"
        )
    if run.restarted_from() == restart_from:
        restart_from = None
    made: dict[str, Made] = {}
    steps: list[Step] = []
    stale: dict[str, str] = {}
    for stage in STAGES:
        requested, record = stage in config.stages, run.record(stage)
        if not requested and record is None:
            continue
        parent = parent_of(stage, config, run)
        inputs = stage_inputs(
            config, stage, data_hash=data_hash, parent=parent, made=made,
            former=record.inputs if record is not None and not requested else None,
        )  # fmt: skip
        settings = stage_settings(config, stage)
        reason = why_not_reusable(run, stage, settings, inputs)
        forced = restart_from is not None and STAGES.index(stage) >= STAGES.index(restart_from)
        if not requested:
            if reason is not None:
                stale[stage] = reason
            elif record is not None:
                made[stage] = Made.by(record)
            continue
        if parent in stale:
            raise PipelineError(
                f"{stage} starts from {parent}, which is stale ({stale[parent]}): put {parent} in "
                "--stages to make it anew, or take the change back"
            )
        step = _step(run, stage, settings, inputs, parent, reason, forced)
        steps.append(step)
        if step.action == "reuse" and record is not None:
            made[stage] = Made.by(record)
        else:
            made[stage] = Made(ANEW, inputs.get(PARENT_INPUT, ""))
    return Plan(tuple(steps), stale)


def _step(
    run: RunDir,
    stage: str,
    settings: dict[str, Any],
    inputs: Mapping[str, str],
    parent: str | None,
    reason: str | None,
    forced: bool,
) -> Step:
    if reason is None and not forced:
        return Step(stage, "reuse", "settings and inputs are the same", parent, settings)
    if forced:
        return Step(stage, "run", "asked for with --from", parent, settings)
    if can_continue(run, stage, fingerprint(settings, inputs)):
        return Step(stage, "continue", "was interrupted", parent, settings)
    return Step(stage, "run", reason or "", parent, settings)

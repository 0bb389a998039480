"""The engine: it plans, runs or reuses stages, and knows them only by their declarations."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.context import StageContext
from pipeline.dependencies import (
    PARENT_INPUT,
    fingerprint,
    library_versions,
    made_by,
    stage_inputs,
    teacher_stage,
)
from pipeline.plan import (
    Plan,
    Step,
    can_resume,
    can_resume_slower,
    mark_started,
    rateless_fingerprint,
    with_started_stages,
)
from pipeline.preflight import check_settings, checked_plan
from pipeline.run_dir import CHECKPOINT, RunDir
from pipeline.run_images import read_images, split_validation
from pipeline.settings_io import write_config
from pipeline.stage_results import StageRecord
from pipeline.time_estimate import hardware_of
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.data.schema import ReidData

if TYPE_CHECKING:
    from pipeline.stage import AnyStage
    from reid_edge.training.world import World

logger = logging.getLogger(__name__)


def run_stages(
    config: Config,
    run: RunDir,
    *,
    restart_from: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    planned: Callable[[Plan, ReidData, str], None] = lambda *_: None,
    work: StartProgress = no_progress,
    world: World | None = None,
) -> Plan:
    """Run the stages of a plan; reuse those that are finished and still fit.

    The caller must hold the lock of the folder.

    Args:
        config: all settings, with the stages that it was made for.
        run: the run's folder.
        restart_from: run this stage and those after it again.
        progress: is called with the name of the stage that runs, when a stage begins and when it
            has left something to show.
        planned: is called with the plan, the images and their hash before the first stage begins.
        work: begins a piece of work, such as an evaluation, and returns what it reports to.
        world: the processes that train together, if another program started them; this is the first
            of them.

    Returns:
        The plan that was carried out.
    """
    run.remove_leftovers()
    # Before CUDA starts: with this, its kernels give the same bits every time.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if config.threads is not None:
        import torch

        torch.set_num_threads(config.threads)
    check_settings(config)
    whole, data_hash = read_images(config, run, work)
    data, validation = split_validation(config, whole)
    plan = checked_plan(config, run, data, data_hash, restart_from)
    # Written after all checks, so that a refused command leaves the run as it was.
    run.write_config(write_config(with_started_stages(config, run)))
    if restart_from is not None and run.restarted_from() != restart_from:
        _set_aside(run, [step.stage for step in plan.steps if step.action == "run"])
        run.mark_restart(restart_from)
    for step in plan.steps:
        logger.info("%s: %s (%s)", step.stage, step.action, step.reason)
    for stage, reason in plan.stale.items():
        logger.warning("%s: stale and not asked for (%s)", stage, reason)
    planned(plan, data, data_hash)
    for step in plan.steps:
        if step.action == "reuse":
            record = run.record(step.stage)
            if record is not None:
                run.restore_metrics(record)
        else:
            # Results that do not fit the settings are not passed on.
            earlier = {stage.name for stage in config.declared.before(step.stage)} - set(plan.stale)
            made = {name: record for name, record in run.records().items() if name in earlier}
            progress(step.stage)
            _run_stage(config, run, step, data, validation, data_hash, made, progress, work, world)
    run.mark_restart(None)
    return plan


def _set_aside(run: RunDir, stages: Sequence[str]) -> None:
    for stage in reversed(stages):
        moved = run.set_aside(stage)
        if moved is not None:
            logger.info("%s: what was there before is in %s", stage, moved)


def _run_stage(
    config: Config,
    run: RunDir,
    step: Step,
    data: ReidData,
    validation: ReidData | None,
    data_hash: str,
    made: Mapping[str, StageRecord],
    progress: Callable[[str], None],
    work: StartProgress,
    world: World | None,
) -> None:
    stage, folder = config.declared[step.stage], run.stage_dir(step.stage)
    inputs = stage_inputs(
        config,
        stage,
        data_hash=data_hash,
        parent=step.parent,
        made={name: made_by(record) for name, record in made.items()},
    )
    wanted = fingerprint(step.settings, inputs)
    rateless = rateless_fingerprint(step.settings, inputs)
    resumed = can_resume(run, stage.name, wanted) or can_resume_slower(run, stage.name, rateless)
    if not resumed:
        _set_aside(run, [stage.name])
    mark_started(folder, wanted, rateless)
    parent = made.get(step.parent) if step.parent else None
    settings = config.of(stage)
    input_size = parent.input_size if parent else (config.data.height, config.data.width)
    if stage.input_size is not None:
        input_size = stage.input_size(settings)
    teacher = teacher_stage(config, made)
    context = StageContext(
        stage=stage.name,
        config=config,
        settings=settings,
        folder=folder,
        data=data,
        parent=run.stage_dir(step.parent) / CHECKPOINT if step.parent else None,
        teacher=run.stage_dir(teacher) / CHECKPOINT if teacher else None,
        parent_hash=inputs.get(PARENT_INPUT, ""),
        input_size=input_size,
        validation=validation,
        made=made,
        progress=partial(progress, stage.name),
        work=work,
        world=world,
    )
    logger.info("%s: started", stage.name)
    started = time.perf_counter()
    result = stage.run(context)
    seconds = time.perf_counter() - started
    stage.check_result(result, folder)
    outputs = run.hash_outputs(stage.name, result)
    run.finish(
        StageRecord(
            stage=stage.name,
            fingerprint=wanted,
            settings=step.settings,
            inputs=inputs,
            outputs=outputs,
            results=run.hash_results(stage.name, outputs),
            versions=library_versions(),
            seed=config.seed,
            seconds=seconds,
            input_size=input_size,
            result=result,
            resumed=resumed,
            ranks=trained_by(config, stage),
            hardware=hardware_of(config),
        )
    )
    run.remove_leftovers()
    logger.info("%s: done in %.0f s", stage.name, seconds)


def trained_by(config: Config, stage: AnyStage) -> int:
    """Return how many processes a stage trains in."""
    trainings = [one for one in stage.all_trainings(config) if one.settings.epochs]
    alone = all(one.devices == 1 for one in trainings)
    return 1 if alone else config.ranks

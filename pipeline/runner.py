"""Plan, run or reuse, record."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config
from pipeline.context import StageContext
from pipeline.dependencies import PARENT_INPUT, Made, stage_inputs
from pipeline.fingerprint import fingerprint, library_versions
from pipeline.images import read_images, split_validation
from pipeline.parents import latest_cut
from pipeline.plan import Plan, Step
from pipeline.preflight import check_settings, checked_plan
from pipeline.reuse import can_continue, mark_begun
from pipeline.run_dir import CHECKPOINT, KEPT, LAST_MODEL, RunDir, StageRecord
from pipeline.settings.stage_names import STAGES
from pipeline.settings_io import write_config
from pipeline.stages import benchmark, export, finetune, prune, quantize, resize, train, transfer
from pipeline.widths import CUTTING_STAGES, cutting_stage
from reid_edge.core.io import hash_file
from reid_edge.data.schema import ReidData

logger = logging.getLogger(__name__)

StageFunction = Callable[[StageContext], dict[str, Any]]

MODEL_SUFFIXES = (".pt", ".onnx", ".xml", ".bin", ".pte", ".tar")

STAGE_FUNCTIONS: dict[str, StageFunction] = {
    "train": train.run,
    "transfer": transfer.run,
    "prune": prune.run,
    "finetune": finetune.run,
    "resize": resize.run,
    "quantize": quantize.run,
    "export": export.run,
    "benchmark": benchmark.run,
}


def run_stages(config: Config, run: RunDir, *, restart_from: str | None = None) -> Plan:
    """Run what has to be run, reuse what can be.

    The folder has to be locked by the caller.

    Args:
        config: all settings.
        run: the run's folder.
        restart_from: run this stage and those after it anew.

    Returns:
        The plan that was carried out.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    check_settings(config)
    whole, data_hash = read_images(config, run)
    data, validation = split_validation(config, whole)
    plan = checked_plan(config, run, data, data_hash, restart_from)
    # Only now: a command that is refused leaves the run as it was.
    run.write_config(write_config(_with_all_stages(config, run)))
    if restart_from is not None and run.restarted_from() != restart_from:
        _set_aside(run, [step.stage for step in plan.steps if step.action == "run"])
        run.mark_restart(restart_from)
    for step in plan.steps:
        logger.info("%s: %s (%s)", step.stage, step.action, step.reason)
    for stage, reason in plan.stale.items():
        logger.warning("%s: stale and not asked for (%s)", stage, reason)
    for step in plan.steps:
        if step.action != "reuse":
            made = _made_before(step.stage, run, plan)
            _run_stage(config, run, step, data, validation, data_hash, made)
    run.mark_restart(None)
    return plan


def _with_all_stages(config: Config, run: RunDir) -> Config:
    """Keep the stages that were ever begun here, so that --run alone means all of them.

    Of transfer and prune, which exclude each other, the one that was asked for last stays.
    """
    begun = {stage for stage in STAGES if run.stage_dir(stage).is_dir()}
    if cutting_stage(config) is not None:
        begun -= set(CUTTING_STAGES)
    elif begun >= set(CUTTING_STAGES):
        begun -= set(CUTTING_STAGES) - {latest_cut(run) or "prune"}
    stages = tuple(stage for stage in STAGES if stage in config.stages or stage in begun)
    return config.model_copy(update={"stages": stages})


def _set_aside(run: RunDir, stages: Sequence[str]) -> None:
    for stage in reversed(stages):
        aside = run.set_aside(stage)
        if aside is not None:
            logger.info("%s: what was there before lies in %s", stage, aside)


def _made_before(stage: str, run: RunDir, plan: Plan) -> dict[str, StageRecord]:
    """Return what the earlier stages made, without those that do not fit the settings."""
    earlier = [name for name in STAGES[: STAGES.index(stage)] if name not in plan.stale]
    return {name: record for name in earlier if (record := run.record(name)) is not None}


def _run_stage(
    config: Config,
    run: RunDir,
    step: Step,
    data: ReidData,
    validation: ReidData | None,
    data_hash: str,
    made: dict[str, StageRecord],
) -> None:
    parent = made.get(step.parent) if step.parent else None
    inputs = stage_inputs(
        config,
        step.stage,
        data_hash=data_hash,
        parent=step.parent,
        made={stage: Made.by(record) for stage, record in made.items()},
    )
    wanted = fingerprint(step.settings, inputs)
    folder = run.stage_dir(step.stage)
    continued = can_continue(run, step.stage, wanted)
    if not continued:
        _set_aside(run, [step.stage])
    mark_begun(folder, wanted)
    context = StageContext(
        stage=step.stage,
        config=config,
        folder=folder,
        data=data,
        parent=run.stage_dir(step.parent) / CHECKPOINT if step.parent else None,
        teacher=run.stage_dir("train") / CHECKPOINT if "train" in made else None,
        parent_hash=inputs.get(PARENT_INPUT, ""),
        input_size=_input_size(config, step.stage, parent),
        validation=validation,
        made=made,
    )
    logger.info("%s: started", step.stage)
    started = time.perf_counter()
    row = STAGE_FUNCTIONS[step.stage](context)
    seconds = time.perf_counter() - started
    run.finish(
        StageRecord(
            stage=step.stage,
            fingerprint=wanted,
            settings=step.settings,
            inputs=inputs,
            outputs=_hash_outputs(folder),
            versions=library_versions(),
            seed=config.seed,
            seconds=seconds,
            result={**row, "input_size": list(context.input_size)},
            continued=continued,
        )
    )
    for leftover in folder.rglob("*.ckpt"):
        leftover.unlink()
    logger.info("%s: done in %.0f s", step.stage, seconds)


def _input_size(config: Config, stage: str, parent: StageRecord | None) -> tuple[int, int]:
    """Return (height, width) of a stage's model: that of the model it starts from, or a new one."""
    if stage == "resize":
        return config.resize.height, config.resize.width
    if parent is None:
        return config.data.height, config.data.width
    return parent.input_size


def _hash_outputs(folder: Path) -> dict[str, str]:
    """Return the hashes of the files that later stages start from or measure."""
    found = [path for path in sorted(folder.glob("*")) if path.suffix in MODEL_SUFFIXES]
    models = [path for path in found if path.name != LAST_MODEL]
    paths = [*models, folder / KEPT]
    return {path.name: hash_file(path) for path in paths if path.is_file()}

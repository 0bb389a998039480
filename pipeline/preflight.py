"""Checks before the run, so that wrong settings fail at once and not after an hour."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.plan import Plan, make_plan
from pipeline.run_dir import RunDir
from pipeline.stage import AnyStage
from pipeline.trackers import check_trackers
from pipeline.without_identities import check_without_identities
from reid_edge.core.devices import Precision, choose_device
from reid_edge.core.errors import PipelineError, TrainingError
from reid_edge.core.packages import how_to_install, missing_packages
from reid_edge.data.schema import ReidData, relabel
from reid_edge.training.launchers import find_launch

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

# How the program writes the images that it draws itself.
DRAWN_FORMAT = "market1501"


def check_choices(config: Config) -> None:
    """Check what can be checked without images and without PyTorch, which takes seconds to import.

    Raises:
        PipelineError: all losses of a training have weight 0, a training stops early without a
            validation, a stage misses a package, or a setting needs identities and there are none.
        TrainingError: several devices are asked for in a task of Slurm, torchrun or the like, or a
            loss compares images of a person and a batch has one of each.
    """
    if config.data.root is None and config.data.format != DRAWN_FORMAT:
        raise PipelineError(
            f"data.format: {config.data.format} is the layout of a folder, and no folder is given; "
            "give data.root=FOLDER"
        )
    if config.ranks > 1 and (config.data.labels != "persons" or config.teacher.file is not None):
        raise PipelineError(
            "devices: images without identities and teacher.file are for one process; give "
            "devices=1"
        )
    if config.teacher.architecture is not None and config.teacher.file is None:
        raise PipelineError(
            "teacher.architecture: is that of teacher.file, and there is none; give teacher.file, "
            "or leave the architecture out"
        )
    if config.data.labels != "persons":
        check_without_identities(config, requested(config))
    check_trackers(config.log)
    for stage in requested(config):
        missing = missing_packages(stage.packages)
        if missing:
            raise PipelineError(
                f"stage {stage.name} needs the package {' and '.join(missing)}: "
                f"{how_to_install(stage.extra)}"
            )
        for training in stage.all_trainings(config):
            settings = training.settings
            if settings.epochs:
                find_launch(config.devices, config.num_nodes)
            if settings.epochs and not (
                any(training.distillation_weights.values()) or settings.losses.total_weight
            ):
                raise PipelineError(
                    f"{training.key}: nothing to learn from, every loss has weight 0; give "
                    f"{training.key}.losses.cross_entropy a weight, or epochs 0"
                )
            settings.check_pairs(training.key)
            if settings.patience and not config.data.validation_share:
                raise PipelineError(
                    f"{training.key}.patience: there is no validation to lose patience with; give "
                    "data.validation_share a value such as 0.1"
                )


def check_settings(config: Config) -> None:
    """Check what can be checked without images.

    Raises:
        PipelineError: as of :func:`check_choices`. Or the device is missing, or the layers to
            freeze do not exist.
        PruneError: the target cannot be reached from the source.
        QuantizeError: the engine is not supported here.
    """
    check_choices(config)
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError("device: cuda was asked for, but torch finds no GPU; use device=cpu")
    if choose_device(config.device) == "cuda" and torch.cuda.device_count() < config.devices:
        raise PipelineError(
            f"devices: {config.devices} were asked for, but torch finds "
            f"{torch.cuda.device_count()} GPU(s); give as many, or device=cpu"
        )
    stages = requested(config)
    for stage in stages:
        stage.check(config)
        for training in stage.all_trainings(config):
            key, settings = training.key, training.settings
            if settings.epochs:
                check_precision(key, settings.precision, config)
            if settings.frozen_layers:
                from reid_edge.training.layers import match_layers

                learns = (
                    bool(training.distillation_weights.get("logits"))
                    or settings.losses.cross_entropy > 0
                )
                try:
                    match_layers(
                        full_width_layers(config), settings.frozen_layers, classifier_learns=learns
                    )
                except TrainingError as error:
                    raise PipelineError(f"{key}.{error}") from error
    for line in (line for stage in stages for line in stage.all_unused(config)):
        logger.warning("%s", line)


def check_precision(key: str, precision: Precision, config: Config) -> None:
    """Check that the device of a run has the arithmetic of a training, and warn if it is slow.

    Args:
        key: section of the training, which the message names.
        precision: of the training.
        config: all settings.

    Raises:
        PipelineError: the arithmetic needs a GPU.
    """
    import torch

    if precision == "32-true" or choose_device(config.device) == "cuda":
        return
    if precision == "16-mixed":
        raise PipelineError(
            f"{key}.precision: 16-mixed needs a GPU; on the CPU use bf16-mixed or 32-true"
        )
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16") or able.get("amx_bf16")
    if able.get("architecture") == "x86_64" and not fast:
        logger.warning(
            "%s.precision: bf16-mixed takes longer than 32-true on this processor, which has no "
            "arithmetic for it (AVX512-BF16 or AMX)", key,
        )  # fmt: skip


def requested(config: Config) -> list[AnyStage]:
    """Return the requested stages, in their order."""
    return [config.declared[name] for name in config.stages]


def full_width_layers(config: Config) -> nn.Module:
    """Build the full-width model; models of every width have the same layer names."""
    from reid_edge.models.registry import build_model

    return build_model(config.model.architecture, embedding_dim=config.model.embedding_dim)


def checked_plan(
    config: Config,
    run: RunDir,
    data: ReidData | None,
    data_hash: str,
    restart_from: str | None,
) -> Plan:
    """Run all checks that are possible beforehand, and return the plan of the command.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        data: without its validation identities; None: not there yet.
        data_hash: of the images.
        restart_from: see :func:`pipeline.plan.make_plan`.

    Raises:
        PipelineError: as of :func:`check_batches`, ``make_plan`` and :func:`check_files`.
        CheckpointError: as of :func:`check_files`.
        ReidError: ``teacher.file`` cannot be read, or lacks an image.
    """
    if data is not None:
        check_batches(config, data)
    plan = make_plan(config, run, data_hash=data_hash, restart_from=restart_from)
    check_files(config, run, plan.to_run)
    will_run = [config.declared[name] for name in plan.to_run]
    if config.teacher.file is not None and any(s.takes_teacher(config) for s in will_run):
        from pipeline.teachers import check_teacher_file

        check_teacher_file(config, data)
    return plan


def check_files(config: Config, run: RunDir, stages: Sequence[str]) -> None:
    """Check the files that stages start from, before earlier results are moved away.

    Args:
        config: all settings.
        run: the run's folder.
        stages: those that will run.

    Raises:
        PipelineError: one of these stages made the file, so the file would be moved away.
        CheckpointError: the pretrained weights cannot be read or do not fit. Or they would be used
            without training, although the model computes other embeddings than their program.
    """
    folders = {run.stage_dir(stage).resolve(): stage for stage in stages}
    will_run = [config.declared[name] for name in stages]
    for file in (file for stage in will_run for file in stage.files(config.of(stage))):
        for folder in file.path.resolve().parents:
            if folder in folders:
                raise PipelineError(
                    f"{file.path}: {file.key} names a file of the stage {folders[folder]}, which "
                    "is made again; copy it out of the run first, or give the new run another --run"
                )
    for stage in will_run:
        stage.check_files(config)


def check_batches(config: Config, data: ReidData) -> None:
    """Check that there are enough images for every stage and for every training batch.

    Raises:
        PipelineError: there are too few; the message names the setting.
    """
    from reid_edge.data.sampling import EpochSampler, check_batch

    for stage in requested(config):
        stage.check_data(config, data)
    classes = relabel(data.train)
    for training in (t for stage in requested(config) for t in stage.all_trainings(config)):
        settings = training.settings
        if settings.epochs == 0:
            continue
        groups, images = settings.identities_per_batch, settings.images_per_identity
        try:
            if data.labels != "persons":
                check_batch(len(classes), groups, images)
                continue
            EpochSampler(
                classes,
                identities_per_batch=groups,
                images_per_identity=images,
                seed=0,
                replicas=config.ranks if training.devices is None else training.devices,
            )
        except TrainingError as error:
            raise PipelineError(f"{training.key}: {error}") from error

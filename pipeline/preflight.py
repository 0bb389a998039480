"""What would fail an hour into the run fails now."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pipeline.calibration import check_held_back
from pipeline.config import Config
from pipeline.dependencies import named_files
from pipeline.exporters import check_model, check_packages, check_published_widths
from pipeline.plan import Plan, make_plan
from pipeline.pretrained import load_start
from pipeline.run_dir import RunDir
from pipeline.settings.cut import CutSettings
from pipeline.settings.stage_names import StageName
from pipeline.settings.target import WidthBudget
from pipeline.settings.train import FinetuneStage
from pipeline.unused import unused_in_stages, unused_in_training
from pipeline.widths import (
    cutting_stage,
    final_widths,
    full_width_model,
    schedule,
    stock_target,
)
from quantize.call_sites import check_layer_names
from reid_edge.core.devices import choose_device
from reid_edge.core.errors import ModelError, PipelineError, TrainingError
from reid_edge.core.int8_engine import check_engine
from reid_edge.data.sampling import EpochSampler
from reid_edge.data.schema import ReidData, count_persons, relabel
from reid_edge.models.checkpoint_info import CheckpointInfo
from reid_edge.models.registry import build_model
from reid_edge.training.layers import match_layers
from reid_edge.training.settings import DistillationSettings, TrainingSettings

logger = logging.getLogger(__name__)

# How the program writes the images that it draws itself.
DRAWN_FORMAT = "market1501"
# Quantization-aware training runs on one device.
QAT = "quantize.qat"


def check_settings(config: Config) -> None:
    """Check what can be checked without images.

    Raises:
        PipelineError: the device is not there, a training has nothing to learn from, the layers
            it is to freeze are not there, or a package that a file needs is not installed.
        PruneError: the target cannot be reached from the source.
        QuantizeError: the engine is not there.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError("device: cuda was asked for, but torch finds no GPU; use device=cpu")
    if _trains_on_gpu(config) and torch.cuda.device_count() < config.devices:
        raise PipelineError(
            f"devices: {config.devices} were asked for, but torch finds "
            f"{torch.cuda.device_count()} GPU(s); give as many, or device=cpu"
        )
    if config.data.root is None and config.data.format != DRAWN_FORMAT:
        raise PipelineError(
            f"data.format: {config.data.format} is how a folder is laid out, and there is none; "
            "give data.root=FOLDER"
        )
    stage = cutting_stage(config)
    if stage is not None:
        _check_widths(config, stage)
    if "quantize" in config.stages:
        check_engine(config.quantize.engine)
        check_layer_names(_full_width(config), config.quantize.float_layers)
    if "export" in config.stages:
        check_packages(config.export.files)
        _check_exported(config)
    for training in _trainings(config):
        _check_training(config, training)
    for line in unused_in_stages(config):
        logger.warning("%s", line)


def _trains_on_gpu(config: Config) -> bool:
    return choose_device(config.device) == "cuda"


def _check_widths(config: Config, stage: StageName) -> None:
    target, checked = config.prune.target, config
    if stage == "prune" and isinstance(target, WidthBudget) and target.latency is not None:
        # Measuring takes long; what else the settings ask for is checked without.
        without = config.prune.model_copy(update={"target": WidthBudget(macs=1.0)})
        checked = config.model_copy(update={"prune": without})
    source = full_width_model(checked)
    schedule(checked, stage, source, final_widths(checked, stage, source))


def _check_exported(config: Config) -> None:
    """Check that torchreid and BoxMOT can build the model, as far as the settings tell."""
    stage = cutting_stage(config)
    architecture = config.model.architecture if stage is None else stock_target(config, stage)
    if architecture is None:
        check_published_widths(config.export.files)
        return
    # A stage that is not asked for may have cut the model, to a width of the same family.
    info = CheckpointInfo(
        architecture,
        num_classes=1,
        embedding_dim=config.model.embedding_dim,
        input_size=(config.data.height, config.data.width),
    )
    try:
        check_model(config.export.files, info)
    except ModelError as error:
        raise PipelineError(f"export.files: {error}") from error


@dataclass(frozen=True)
class _Training:
    """A training of a requested stage.

    Attributes:
        key: of its settings.
        settings: themselves.
        taught: weights of what a teacher tells it, if it has one.
    """

    key: str
    settings: TrainingSettings
    taught: DistillationSettings | None = None


def _check_training(config: Config, training: _Training) -> None:
    key, settings = training.key, training.settings
    taught = {} if training.taught is None else training.taught.model_dump()
    if settings.epochs and not (any(taught.values()) or settings.losses.total_weight):
        raise PipelineError(
            f"{key}: nothing to learn from, every loss has weight 0; give "
            f"{key}.losses.cross_entropy a weight, or epochs 0"
        )
    if settings.epochs and settings.precision == "16-mixed" and not _trains_on_gpu(config):
        raise PipelineError(
            f"{key}.precision: 16-mixed needs a GPU; on the CPU use bf16-mixed or 32-true"
        )
    if settings.epochs and settings.precision == "bf16-mixed" and not _trains_on_gpu(config):
        _warn_if_bfloat16_is_slow(key)
    if settings.patience and not config.data.validation_share:
        raise PipelineError(
            f"{key}.patience: there is no validation to lose patience with; give "
            "data.validation_share a value such as 0.1"
        )
    for line in unused_in_training(key, settings):
        logger.warning("%s", line)
    if settings.frozen_layers:
        learns = bool(taught.get("logits")) or settings.losses.cross_entropy > 0
        try:
            match_layers(_full_width(config), settings.frozen_layers, classifier_learns=learns)
        except TrainingError as error:
            raise PipelineError(f"{key}.{error}") from error


def _warn_if_bfloat16_is_slow(key: str) -> None:
    able = torch.cpu.get_capabilities()
    if able.get("architecture") != "x86_64":
        return
    if not (able.get("avx512_bf16") or able.get("amx_bf16")):
        logger.warning(
            "%s.precision: bf16-mixed takes longer than 32-true on this processor, which has no "
            "arithmetic for it (AVX512-BF16 or AMX)",
            key,
        )


def _full_width(config: Config) -> nn.Module:
    """Build the model whose layers have the names that those of every width have."""
    return build_model(config.model.architecture, embedding_dim=config.model.embedding_dim)


def checked_plan(
    config: Config,
    run: RunDir,
    data: ReidData | None,
    data_hash: str,
    restart_from: str | None,
) -> Plan:
    """Return what a command will do, once all that can be checked beforehand is.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        data: without its validation identities; None: not there yet.
        data_hash: of the images.
        restart_from: see :func:`pipeline.plan.make_plan`.

    Raises:
        PipelineError: as of :func:`check_batches`, ``make_plan`` and :func:`check_files`.
        CheckpointError: as of :func:`check_files`.
    """
    if data is not None:
        check_batches(config, data)
    plan = make_plan(config, run, data_hash=data_hash, restart_from=restart_from)
    check_files(config, run, plan.to_run)
    return plan


def check_files(config: Config, run: RunDir, stages: Sequence[str]) -> None:
    """Check the files that stages start from, so that a wrong one displaces nothing made before.

    Args:
        config: all settings.
        run: the run's folder.
        stages: those that will run.

    Raises:
        PipelineError: a file is one that these stages made, and will be moved away.
        CheckpointError: the pretrained weights cannot be read or do not fit, or would be measured
            untrained though the model computes something else than the program they are from.
    """
    folders = {run.stage_dir(stage).resolve(): stage for stage in stages}
    for file in (file for stage in stages for file in named_files(config, stage)):
        for folder in file.path.resolve().parents:
            if folder in folders:
                raise PipelineError(
                    f"{file.path}: {file.key} names a file of the stage {folders[folder]}, which "
                    "is made anew; copy it out of the run first, or give the new run another --run"
                )
    if "train" in stages and config.train.pretrained is not None:
        model = build_model(
            config.model.architecture, num_classes=2, embedding_dim=config.model.embedding_dim
        )
        load_start(model, config.train)


def check_batches(config: Config, data: ReidData) -> None:
    """Check that every training of the run can fill its batches, and int8 can be judged.

    Raises:
        PipelineError: a training set is too small; the message names the setting.
    """
    quantize, images = config.quantize, len(data.train)
    left = max(images - quantize.calibration_images, 0)
    held_back = min(quantize.held_back_images, left)
    if "quantize" in config.stages:
        check_held_back(quantize, images, held_back=held_back)
    classes = relabel(data.train)
    for training in _trainings(config):
        key, settings = training.key, training.settings
        if settings.epochs == 0:
            continue
        # An identity's only image is not held back.
        trained_on = max(images - held_back, count_persons(data.train))
        batch = settings.identities_per_batch * settings.images_per_identity
        if key == QAT and trained_on < batch:
            raise PipelineError(
                f"{key}: a batch takes {batch} images, and of {images} training images "
                f"{held_back} are held back to judge int8 by; lower quantize.held_back_images "
                "or choose smaller batches"
            )
        try:
            EpochSampler(
                classes,
                identities_per_batch=settings.identities_per_batch,
                images_per_identity=settings.images_per_identity,
                seed=0,
                replicas=1 if key == QAT else config.devices,
            )
        except TrainingError as error:
            raise PipelineError(f"{key}: {error}") from error


def _trainings(config: Config) -> list[_Training]:
    """Return the trainings of the requested stages."""

    def taught(stage: CutSettings | FinetuneStage) -> DistillationSettings | None:
        return stage.distillation if stage.teacher else None

    transfer, prune, finetune = config.transfer, config.prune, config.finetune
    finetune_taught = taught(finetune)
    if finetune_taught and "train" in config.stages and cutting_stage(config) is None:
        # Its model comes from train, so there are no kept channels to be hinted at.
        finetune_taught = finetune_taught.model_copy(update={"hints": 0.0})
    found = {
        "train": _Training("train", config.train),
        "transfer": _Training("transfer.tuning", transfer.tuning, taught(transfer)),
        "prune": _Training("prune.tuning", prune.tuning, taught(prune)),
        "finetune": _Training("finetune", finetune, finetune_taught),
        "resize": _Training("resize", config.resize),
    }
    if config.quantize.mode == "qat":
        qat = config.quantize.qat
        found["quantize"] = _Training(QAT, qat, qat.distillation)
    return [training for stage, training in found.items() if stage in config.stages]

"""What would fail an hour into the run fails now."""

import torch

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.widths import planned_widths
from reid.data.records import ReidData, relabel
from reid.data.sampling import EpochSampler
from reid.errors import TrainingError
from reid.training.settings import TrainingSettings


def check_settings(config: Config) -> None:
    """Check what can be checked without pictures.

    Raises:
        PipelineError: the device is not there.
        PruneError: the target cannot be reached from the source.
        QuantizeError: the engine is not there.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError("device: cuda was asked for, but torch finds no GPU; use device=cpu")
    if "prune" in config.stages:
        planned_widths(config)


def check_batches(config: Config, data: ReidData) -> None:
    """Check that every training of the run can fill its batches.

    Raises:
        PipelineError: a training set is too small; the message names the setting.
    """
    trainings: dict[str, tuple[str, TrainingSettings]] = {
        "train": ("train", config.train),
        "prune": ("prune.tuning", config.prune.tuning),
        "finetune": ("finetune", config.finetune),
    }
    classes = relabel(data.train)
    for stage, (key, settings) in trainings.items():
        if stage not in config.stages or settings.epochs == 0:
            continue
        try:
            EpochSampler(
                classes,
                identities_per_batch=settings.identities_per_batch,
                pictures_per_identity=settings.pictures_per_identity,
                seed=0,
            )
        except TrainingError as error:
            raise PipelineError(f"{key}: {error}") from error

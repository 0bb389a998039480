"""What a run on images without identities cannot do, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.settings.cut_sections import CutSettings
from prune.criteria import find_criterion
from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.stage import AnyStage, Training

CONFIG = "configs/without_labels.yaml"


def check_without_identities(config: Config, stages: Sequence[AnyStage]) -> None:
    """Check that nothing is asked for that only identities can give.

    Args:
        config: of a run on images without identities.
        stages: the requested ones.

    Raises:
        PipelineError: a setting needs identities; the message says what to do.
    """
    if config.data.validation_share:
        raise PipelineError(
            "data.validation_share: sets identities apart, and the images have none; leave it out, "
            "then the last epoch is kept"
        )
    for stage in stages:
        section = config.of(stage)
        if stage.chooses_by_accuracy(section):
            raise PipelineError(
                f"{stage.name}.accuracy_budget: is a loss of mAP, which images without identities "
                "do not tell; leave it out"
            )
        if (
            isinstance(section, CutSettings)
            and find_criterion(section.criterion).needs == "labelled_images"
        ):
            raise PipelineError(
                f"{stage.name}.criterion: {section.criterion} needs the identities of images; "
                "choose reconstruction, which needs images alone"
            )
        if stage.own_labels:
            continue
        if stage.model == "makes" and getattr(section, "pretrained", None) is None:
            raise PipelineError(
                f"{stage.name}.pretrained: without identities a run begins with a trained model; "
                f"give {stage.name}.pretrained=FILE"
            )
        for training in stage.all_trainings(config):
            if training.settings.epochs:
                _check_training(training, makes_model=stage.model == "makes")


def _check_training(training: Training, *, makes_model: bool) -> None:
    key, weights = training.key, training.distillation_weights
    if makes_model:
        raise PipelineError(
            f"{key}.epochs: the images have no identities to train on; give {key}.epochs=0, which "
            f"takes {key}.pretrained as it is"
        )
    if training.settings.losses.total_weight:
        raise PipelineError(
            f"{key}.losses: cross entropy, triplet and circle loss need identities; give "
            f"{key}.losses.cross_entropy=0 and {key}.losses.triplet=0, or take the settings of "
            f"{CONFIG}"
        )
    if weights.get("logits"):
        raise PipelineError(
            f"{key}: distillation.logits compares probabilities of identities, and the images have "
            "none; give it weight 0"
        )
    if not any(weights.values()):
        raise PipelineError(
            f"{key}: without identities there is only the full-width model to learn from; set the "
            "stage's teacher=true and weights of its distillation"
        )

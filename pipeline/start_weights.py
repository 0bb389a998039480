"""The weights that ``train`` starts from."""

import logging

from torch import nn

from pipeline.stages.train import TrainStage
from reid_edge.core.errors import CheckpointError
from reid_edge.models.input_statistics import are_imagenets
from reid_edge.models.pretrained import LoadReport, load_pretrained

logger = logging.getLogger(__name__)


def load_start(model: nn.Module, settings: TrainStage) -> LoadReport | None:
    """Load ``train.pretrained`` into a model, in place, if it is given.

    Raises:
        CheckpointError: the file cannot be read or does not fit. Or ``train.epochs`` is 0, and the
            model gives other embeddings than the program that the file is from.
    """
    if settings.pretrained is None:
        return None
    report = load_pretrained(model, settings.pretrained, settings.pretrained_key)
    if settings.epochs:
        return report
    reasons = _differences(report)
    if report.random:
        random = f"{report.random[0]!r} of the model is not in the file and stays random"
        reasons.append(f"{random}; give the file's model.architecture and model.embedding_dim")
    if reasons:
        raise CheckpointError(
            f"{report.path}: train.epochs=0 takes it as it is, but {reasons[0]}; otherwise train "
            "it, with train.epochs"
        )
    return report


def log_start(report: LoadReport | None) -> None:
    """Log what was loaded, and how the run differs from the program that the file is from."""
    if report is None:
        logger.info("train: from random weights; ImageNet or ReID weights: train.pretrained=FILE")
        return
    logger.info("train: %s", report)
    for difference in _differences(report):
        logger.warning("train: %s: %s", report.path.name, difference)


def _differences(report: LoadReport) -> list[str]:
    """Return how a run differs from the program that weights are from, a clause each."""
    found = list(report.incompatibilities)
    if not are_imagenets(report.statistics):
        mean, std = (" ".join(f"{value:.3f}" for value in colours) for colours in report.statistics)
        found.append(
            f"it is for colours with a mean of {mean} taken off and divided by {std}, and "
            "runs take ImageNet's values"
        )
    return found

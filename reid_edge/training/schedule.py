"""The learning rate over a training."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from reid_edge.training.settings import LearningRateRule, TrainingSettings

Schedule = Callable[[int], float]


def warmup_cosine(*, warmup_steps: int, total_steps: int) -> Schedule:
    """Return the factor of the peak rate at a step: linear warm-up, then half a cosine to zero.

    Args:
        warmup_steps: steps of warm-up, limited to half of all steps.
        total_steps: steps of the whole training.
    """
    warmup = min(warmup_steps, total_steps // 2)

    def factor(step: int) -> float:
        if step < warmup:
            return _rise(step, warmup)
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor


def warmup_step(*, warmup_steps: int, milestones: Sequence[int], gamma: float) -> Schedule:
    """Return the factor of the peak rate at a step: linear warm-up, then steps down.

    Args:
        warmup_steps: steps of warm-up; milestones within them take effect after them.
        milestones: increasing steps; each multiplies the rate by ``gamma`` once more.
        gamma: factor of the rate at each milestone.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return _rise(step, warmup_steps)
        return gamma ** bisect_right(milestones, step)

    return factor


def scale_learning_rates(
    settings: TrainingSettings, rule: LearningRateRule, ranks: int
) -> TrainingSettings:
    """Return settings with the peak rates for as many processes.

    Goyal et al., "Accurate, Large Minibatch SGD", 2017, for "linear"; Krizhevsky, "One weird trick
    for parallelizing convolutional neural networks", 2014, for "sqrt".
    """
    factor = {"none": 1.0, "linear": float(ranks), "sqrt": math.sqrt(ranks)}[rule]
    head = settings.head_learning_rate
    return settings.model_copy(
        update={
            "learning_rate": settings.learning_rate * factor,
            "head_learning_rate": None if head is None else head * factor,
        }
    )


def _rise(step: int, warmup: int) -> float:
    return (step + 1) / (warmup + 1)

"""The learning rate over a training."""

import math
from collections.abc import Callable


def warmup_cosine(*, warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Return the factor of the peak rate at a step: linear warm-up, then half a cosine to zero.

    Args:
        warmup_steps: steps of warm-up; at most half of all steps are spent on it.
        total_steps: steps of the whole training.
    """
    warmup = min(warmup_steps, total_steps // 2)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = (step - warmup) / max(1, total_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return factor

"""The moving average of the weights, which is often more accurate than the last weights."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average whose decay grows with the number of steps.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    ``ExponentialMovingAverage``, so that the average soon forgets the random initial weights.

    Args:
        decay: the largest decay, in [0, 1).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay

    def __call__(self, averages: list[Tensor], values: list[Tensor], steps: Tensor | int) -> None:
        """Move averages towards values in place; tensors of integers are copied."""
        if averages[0].is_floating_point():
            decay = min(self._decay, (1 + int(steps)) / (10 + int(steps)))
            get_ema_multi_avg_fn(decay)(averages, values, steps)  # type: ignore[no-untyped-call]
        else:
            for average, value in zip(averages, values, strict=True):
                average.copy_(value)


def average_weights(decay: float) -> WeightAveraging:
    """Return the callback that averages parameters and BatchNorm statistics after every step.

    The average is validated and saved as ``state_dict``; training continues with the weights.
    """
    return WeightAveraging(multi_avg_fn=MovingAverage(decay))

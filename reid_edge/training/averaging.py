"""The moving average of the weights, which is often better than the weights themselves."""

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average whose memory grows with the steps it has seen.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), so that the random weights of the
    start are soon forgotten, as in TensorFlow's ``ExponentialMovingAverage``.

    Args:
        decay: of the average in the long run, in [0, 1).
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

    What is validated, and saved as ``state_dict``, is the average; training goes on with the
    weights themselves.
    """
    return WeightAveraging(multi_avg_fn=MovingAverage(decay))

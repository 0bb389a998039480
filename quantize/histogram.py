"""PyTorch's choice of a range from a histogram, in a fraction of its time."""

from bisect import bisect_left, bisect_right

import numpy as np
import torch
from torch import Tensor
from torch.ao.quantization import HistogramObserver

STEP = 1e-5


class QuickHistogramObserver(HistogramObserver):
    """PyTorch's observer, whose search reads numbers where PyTorch's compares tensors.

    It takes the same steps and ends at the same bits. A tensor that holds few different values
    takes tens of thousands of steps, which is a second for PyTorch's own search.
    """

    def _non_linear_param_search(self) -> tuple[Tensor, Tensor]:
        """Return the range, a minimum and a maximum, with the least squared error.

        The range shrinks from that of all values: each step leaves out another share ``STEP`` of
        them at one side, until the error grows.
        """
        bin_width = (self.max_val - self.min_val) / self.bins
        total = torch.sum(self.histogram).item()
        below: list[float] = torch.cumsum(self.histogram, dim=0).tolist()
        alpha, beta, start, end = 0.0, 1.0, 0, self.bins - 1
        lowest = float("inf")
        while alpha < beta and start < end:
            # PyTorch compares in the histogram's precision.
            at_left = float(np.float32((alpha + STEP) * total))
            at_right = float(np.float32((beta - STEP) * total))
            left = bisect_left(below, at_left, start, end)
            right = max(start, bisect_right(below, at_right, start, end + 1) - 1)
            if left - start > end - right:
                alpha, next_start, next_end = alpha + STEP, left, end
            else:
                beta, next_start, next_end = beta - STEP, start, right
            if (next_start, next_end) == (start, end):
                # So it stays until the right quantile falls below the last bin.
                while alpha < beta and (beta - STEP) * total >= below[end]:
                    beta -= STEP
                continue
            error = self._compute_quantization_error(next_start, next_end)
            if error > lowest:
                break
            lowest, start, end = error, next_start, next_end
        return self.min_val + bin_width * start, self.min_val + bin_width * (end + 1)

    def add_counts(self, counts: Tensor, low: Tensor, high: Tensor) -> None:
        """Add the values of a tensor that are counted already, as ``forward`` does.

        Args:
            counts: (bins,) over the range from low to high.
            low: minimum of these and all values before them.
            high: maximum of the same.
        """
        if self.min_val > self.max_val:  # it has seen nothing
            combined = counts
        else:
            combined = self._combine_histograms(
                self.histogram, self.min_val, self.max_val, counts, low, high
            )
        for buffer, value in (
            (self.histogram, combined),
            (self.min_val, low),
            (self.max_val, high),
        ):
            buffer.detach_().resize_(value.shape).copy_(value)

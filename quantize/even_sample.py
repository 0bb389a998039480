"""A few images of a stream whose length is not known beforehand."""

import torch
from torch import Tensor


class EvenSample:
    """At most twice ``target`` images of a stream of batches, evenly spaced over it.

    Args:
        target: images to keep at least, if there are so many.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._stride = 1
        self._seen = 0
        self._kept: list[Tensor] = []

    def add(self, batch: Tensor) -> None:
        """Take what is due of a batch (N, C, H, W)."""
        for image in batch:
            if self._seen % self._stride == 0:
                # A copy, for a view would keep the whole batch alive.
                self._kept.append(image.clone())
            self._seen += 1
            if len(self._kept) >= 2 * self._target:
                self._kept = self._kept[::2]
                self._stride *= 2

    def images(self) -> Tensor:
        """Return the sample (M, C, H, W)."""
        return torch.stack(self._kept)

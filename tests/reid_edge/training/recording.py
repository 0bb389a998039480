"""A training that writes down what each of its processes sees; they import this module."""

import resource
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid_edge.training.module import ReidModule


def faults_of_a_large_block() -> int:
    """Allocate 64 MiB, and return how many pages were cleared for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


class Recording(ReidModule):
    """Write a file for each rank and epoch: batches, weights, number of threads, page faults.

    Args:
        out: folder of the files.
        last: number of the epoch after which the training stops, as if interrupted.
    """

    def __init__(self, *arguments: Any, out: Path, last: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._out, self._last = out, last
        self._seen: list[tuple[int, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Keep the batch."""
        self._seen.append((self.current_epoch, batch[0].clone()))
        return super().training_step(batch, index)

    def on_train_epoch_end(self) -> None:
        """Write the file."""
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        path = self._out / f"rank{self.global_rank}_epoch{self.current_epoch}.pt"
        found = {
            "seen": self._seen, "state": state, "threads": torch.get_num_threads(),
            "faults": [faults_of_a_large_block() for _ in range(4)],
        }  # fmt: skip
        torch.save(found, path)
        self._seen.clear()
        if self.current_epoch + 1 == self._last < (self.trainer.max_epochs or 0):
            self.trainer.should_stop = True

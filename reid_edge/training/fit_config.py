"""What a training consists of: data, settings, and where its state is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.training.settings import DdpSettings, MetricFormat, Strategy, TrainingSettings

# Says where a training diverged; see reid_edge.training.divergence.
DIVERGED = "diverged.json"

if TYPE_CHECKING:  # PyTorch and Lightning take seconds to import
    import numpy as np
    from lightning.pytorch.callbacks import Callback
    from numpy.typing import NDArray

    from reid_edge.data.schema import Sample
    from reid_edge.training.distillation import Teacher
    from reid_edge.training.validation import Validation
    from reid_edge.training.world import World


@dataclass(frozen=True)
class FitConfig:
    """The configuration of :func:`reid_edge.training.fit.fit`: data, method, place.

    Attributes:
        images: the training set.
        height: input rows.
        width: input columns.
        validation: images that choose the best epoch; None: the last epoch is kept.
        settings: batches, losses, optimiser, schedule.
        seed: of every random draw.
        teacher: the model to imitate, if any.
        callbacks: further Lightning callbacks; their state is saved after every epoch too.
        folder: keeps the state after every epoch, from which an interrupted training resumes.
        label: name of the training in the log.
        log: formats in which the numbers of every epoch are written into ``folder``.
        accelerator: Lightning's name of the device kind.
        devices: GPUs, or processes on the CPU, of a machine that share the batches of an epoch;
            the gradient of a step is the mean of theirs.
        num_nodes: machines; with several, another program starts the processes (``world``).
        strategy: "ddp", "ddp_find_unused_parameters_true", or "auto": the second one where
            parameters can be without a gradient.
        ddp: what matters with several processes.
        world: the processes that another program started; their number is ``devices`` times
            ``num_nodes``. The others are in :func:`reid_edge.training.serve.serve`.
        architecture: of the model, and of the teacher, if there is a ``world``; their widths may
            differ.
        workers: processes that load images; their number does not change the result.
        cache: folder of decoded images; None: they are decoded in every epoch. It does not change
            the result.
        neighbours: places (N, M) of the neighbours of every image, by which batches are drawn, in
            one process; None: they are drawn by identity.
    """

    images: Sequence[Sample]
    settings: TrainingSettings
    height: int
    width: int
    seed: int
    folder: Path
    label: str
    validation: Validation | None = None
    teacher: Teacher | None = None
    callbacks: Sequence[Callback] = ()
    log: Sequence[MetricFormat] = ()
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Strategy = "auto"
    ddp: DdpSettings = field(default_factory=DdpSettings)
    world: World | None = None
    architecture: str = ""
    workers: int = 0
    cache: Path | None = None
    neighbours: NDArray[np.int64] | None = None

    @property
    def ranks(self) -> int:
        """Return how many processes train together."""
        return self.devices * self.num_nodes

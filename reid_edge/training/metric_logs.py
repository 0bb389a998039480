"""Write the numbers of every epoch to a CSV file and for TensorBoard.

Both are written before the checkpoint of the epoch, and a resumed training removes what is newer
than its checkpoint, so that every epoch is there once. (Lightning's ``CSVLogger`` overwrites its
file when a training resumes.)
"""

import csv
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from reid_edge.core.errors import TrainingError
from reid_edge.core.io import write_bytes
from reid_edge.core.packages import how_to_install, missing_packages
from reid_edge.training.settings import MetricFormat
from reid_edge.training.validation import METRIC

CSV_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"

logger = logging.getLogger(__name__)


class MetricLog(Callback):
    """Write learning rates, losses and, where there is one, the validation's mAP of every epoch.

    Args:
        folder: where ``metrics.csv`` and ``tensorboard/`` are written.
        formats: which of the two are written.
    """

    def __init__(self, folder: Path, formats: Sequence[MetricFormat]) -> None:
        makers: dict[MetricFormat, Callable[[Path], CsvRows | TensorBoardPoints]] = {
            "csv": lambda folder: CsvRows(folder / CSV_FILE),
            "tensorboard": lambda folder: TensorBoardPoints(folder / TENSORBOARD_FOLDER),
        }
        self._writers = [makers[name](folder) for name in dict.fromkeys(formats)]
        self._validated: dict[str, float] = {}

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Keep the metric for this epoch; Lightning keeps showing it until the next validation."""
        del pl_module
        self._validated = {METRIC: float(trainer.callback_metrics[METRIC])}

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the numbers of the epoch."""
        del pl_module
        backbone, head = trainer.optimizers[0].param_groups
        metrics = trainer.callback_metrics
        row = {"learning_rate": backbone["lr"], "head_learning_rate": head["lr"]}
        row |= {name: float(metrics[name]) for name in sorted(metrics) if name != METRIC}
        row |= self._validated
        self._validated = {}
        if trainer.is_global_zero:
            for writer in self._writers:
                writer.write(trainer.current_epoch + 1, row)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Close the writers."""
        del trainer, pl_module, stage
        for writer in self._writers:
            writer.close()


class CsvRows:
    """A CSV file with one row for every epoch.

    Args:
        path: of the file; its rows are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, epoch: int, row: Mapping[str, float]) -> None:
        """Append a row to those of earlier epochs; rows of this and later epochs are dropped."""
        rows: list[dict[str, Any]] = []
        if self._path.exists():
            try:
                with self._path.open(newline="", encoding="utf-8") as file:
                    rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < epoch]
            except (ValueError, TypeError, KeyError, csv.Error):
                # Nothing is made from this file: a training must not end because of it.
                logger.warning("%s: damaged; it begins again with epoch %d", self._path, epoch)
        rows.append({"epoch": epoch, **row})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(dict.fromkeys(name for r in rows for name in r)))
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self._path, text.getvalue().encode())

    def close(self) -> None:
        """Do nothing: the file is complete after every row."""


class TensorBoardPoints:
    """A folder for TensorBoard whose curves have one point for every epoch.

    Args:
        folder: its points are kept.

    Raises:
        TrainingError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if missing_packages(("tensorboard",)):
            install = how_to_install("tensorboard")
            raise TrainingError(f"log=tensorboard: needs the package tensorboard: {install}")
        self._folder = folder
        self._writer: Any = None

    def write(self, epoch: int, row: Mapping[str, float]) -> None:
        """Add points; the first call voids the folder's points of this and later epochs."""
        # Imported here: it takes a second, and a writer cannot be sent to another process.
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(self._folder, purge_step=epoch)
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Close the writer, which owns a thread and a file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

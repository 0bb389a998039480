"""Memory and open files stay level over many epochs."""

import gc
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from reid_edge.data.schema import ReidData
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.settings import TrainingSettings
from reid_edge.training.validation import Validation

pytestmark = pytest.mark.slow

EPOCHS = 50
# The images of 40 epochs are 47 MB.
BYTES = 6 << 20


class TinyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.classifier = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        embeddings = self.conv(x).mean((2, 3))
        return (self.classifier(embeddings), embeddings) if self.training else embeddings


def resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


class Watch(Callback):
    """Note memory and open files after every epoch; with ``leak``, keep all images."""

    def __init__(self, leak: bool = False) -> None:
        self._leak = leak
        self._kept: list[Tensor] = []
        self.found: list[tuple[int, int]] = []

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any,
        batch: Any, batch_idx: int,
    ) -> None:  # fmt: skip
        del trainer, pl_module, outputs, batch_idx
        if self._leak:
            self._kept.append(batch[0])

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        del pl_module
        if trainer.current_epoch + 1 in (EPOCHS // 5, EPOCHS):
            self.found.append((resident(), open_files()))


def train(data: ReidData, folder: Path, watch: Watch) -> None:
    settings = TrainingSettings(
        epochs=EPOCHS, identities_per_batch=8, images_per_identity=3, validate_every=10
    )
    fit(
        TinyModel(),
        FitConfig(
            images=data.train, settings=settings, height=64, width=32, seed=1, folder=folder,
            label="test", accelerator="cpu", callbacks=[watch], log=("csv",),
            validation=Validation(data),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("leak", [False, True])
def test_many_epochs(tiny_data: ReidData, tmp_path: Path, leak: bool) -> None:
    torch.manual_seed(0)
    watch = Watch(leak)
    train(tiny_data, tmp_path, watch)
    (early, files), (late, files_later) = watch.found
    assert (late - early > BYTES) is leak
    assert files_later == files

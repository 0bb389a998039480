"""Write Lightning's checkpoints after every epoch, whole or not at all."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from reid_edge.core.checksums import write_checked


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write aside, flush, rename, so that a killed process never leaves half a checkpoint.

    The checksum of the file is beside it, see :mod:`reid_edge.core.checksums`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint; ``path`` always holds the old one or the new one as a whole."""
        del storage_options
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_checked(Path(path), buffer.getbuffer())


class KeepBest(ModelCheckpoint):
    """Keep the best checkpoint, and keep its score when the folder is moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score; Lightning discards it if the folder has another name."""
        super().load_state_dict(state_dict | {"dirpath": self.dirpath})

"""Lightning's checkpoints between epochs, written whole or not at all."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from reid_edge.core.io import write_torch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write aside, flush, rename: a killed process never leaves half a checkpoint."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint so that ``path`` holds the old one or the new one, never a part."""
        del storage_options
        write_torch(Path(path), checkpoint)


class KeepBest(ModelCheckpoint):
    """Keep the best checkpoint, and remember its score also when the folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best so far; by itself Lightning forgets it in a folder of another name."""
        super().load_state_dict(state_dict | {"dirpath": self.dirpath})

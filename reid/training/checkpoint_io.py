"""Lightning's checkpoints between epochs, written whole or not at all."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from reid.files import write_torch


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write aside, flush, rename: a killed process never leaves half a checkpoint."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint so that ``path`` holds the old one or the new one, never a part."""
        del storage_options
        write_torch(Path(path), checkpoint)

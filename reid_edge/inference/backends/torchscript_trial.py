"""A TorchScript file that may loop for ever, loaded and run in a process of its own first.

The process is a program of its own: multiprocessing would import the caller's main module again,
and a file is also loaded in scripts that are not made for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.errors import CheckpointError

if TYPE_CHECKING:
    from reid_edge.core.model_file import ModelMetadata

# Of OSNet x1.0, start-up included, it takes 4 seconds; large models on slow machines take longer.
LIMIT_S = 60.0
_USUAL_SIZE = (256, 128)


def try_in_own_process(path: Path, metadata: ModelMetadata, limit_s: float = LIMIT_S) -> None:
    """Load a checked file and run it on one grey image, in a process that is stopped in time.

    An error of the file is no matter here: it is met again, and named, where the file is used.

    Args:
        path: the file, which `check_torchscript` let pass.
        metadata: of the file; its input size is that of the image.
        limit_s: seconds that the process may take.

    Raises:
        CheckpointError: the process did not end in time.
    """
    height, width = metadata.input_size or _USUAL_SIZE
    # Found wherever this package was found, also where that is the current folder.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    try:
        subprocess.run(
            [sys.executable, "-m", __name__, str(path.resolve()), str(height), str(width)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{path}: not loaded, it has a loop that did not end within {limit_s:g} seconds; "
            "export the model with torch.jit.trace, or give its checkpoint"
        ) from error


def _run(path: str, height: int, width: int) -> None:
    import torch

    from reid_edge.inference.backends.torchscript_check import check_torchscript

    check_torchscript(Path(path))  # for the operators that it imports
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
        module(torch.zeros(1, 3, height, width))


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

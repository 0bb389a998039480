"""TorchScript files that are damaged."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reid_edge.inference.embedder import load_embedder
from tests.fuzz.target import Damage, Target, apply_damage, damaged


@cache
def valid() -> bytes:
    """Return a file of a model that flattens its input."""
    stream = io.BytesIO()
    traced = torch.jit.trace(
        nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), torch.zeros(1, 3, 16, 8)
    )
    torch.jit.save(traced, stream)
    return stream.getvalue()


def run(value: tuple[int, list[Damage]], folder: Path) -> None:
    """Load the file and embed an image."""
    path = folder / "model.pt"
    path.write_bytes(apply_damage(valid(), value[1]))
    embedder = load_embedder(path, input_size=(16, 8))
    embedder.embed(np.zeros((1, 3, 16, 8), dtype=np.float32))


TARGET = Target(
    "TorchScript",
    damaged(),
    run,
    known=[(0, [("cut", at, b"x")]) for at in (0, 10, 1000)]
    + [(0, [("set", at, b"\xff\xff")]) for at in range(0, 6000, 300)],
)

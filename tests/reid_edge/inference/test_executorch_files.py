"""ExecuTorch files; skipped without ``pip install -r requirements-executorch.txt``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid_edge.core.backends import recognise
from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.inference.embedder import load_embedder


class Doubled(nn.Module):
    """The mean of each colour, doubled."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * images.mean((2, 3))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as ExecuTorch itself writes it, without a delegate, for batches of up to 8."""
    exir = pytest.importorskip("executorch.exir")
    batch = torch.export.Dim("batch", min=1, max=8)
    example = (torch.rand(2, 3, 64, 32),)
    program = torch.export.export(Doubled(), example, dynamic_shapes=({0: batch},))
    note = {"architecture": "doubled", "colour_order": "BGR", "input_size": "[64, 32]"}
    edge = exir.to_edge(program, constant_methods={"metadata": json.dumps(note)})
    path = tmp_path_factory.mktemp("executorch") / "model.pte"
    path.write_bytes(edge.to_executorch().buffer)
    return path


def test_embeddings_and_metadata(written: Path) -> None:
    embedder = load_embedder(written)
    assert embedder.description == "doubled, ExecuTorch"
    assert (embedder.space.input_size, embedder.space.colour_order) == ((64, 32), "BGR")
    first = torch.rand(1, 3, 64, 32)
    kept = embedder.embed(first.numpy())
    for size in (2, 7, 19):  # memory is planned for 8
        batch = torch.rand(size, 3, 64, 32)
        assert np.allclose(embedder.embed(batch.numpy()), 2 * batch.mean((2, 3)), atol=1e-5)
    assert np.allclose(kept, 2 * first.mean((2, 3)), atol=1e-5)  # no later call wrote into it


def test_images_that_do_not_fit(written: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.pte: the model fails on images of 64x16"):
        load_embedder(written).embed(torch.rand(1, 3, 64, 16).numpy())


def test_a_file_cut_short(written: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.pte"
    path.write_bytes(written.read_bytes()[:200])
    assert recognise(path).name == "executorch"
    with pytest.raises(CheckpointError, match=r"cut\.pte: not a readable ExecuTorch file"):
        load_embedder(path)

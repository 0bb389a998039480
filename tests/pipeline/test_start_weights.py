"""Weights that a run starts from: trained on, or taken as they are."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.stages.train import TrainStage
from pipeline.start_weights import load_start, log_start
from reid_edge.core.errors import CheckpointError
from reid_edge.models.checkpoint import describe, save_checkpoint
from tests.networks import built

pytestmark = pytest.mark.medium

State = dict[str, Tensor]
HALVES = torch.full((1, 3, 1, 1), 127.5)


def torchreids(path: Path) -> Path:
    """torchreid's plain ResNet-18, whose pooled features are the embedding."""
    torch.save({"state_dict": built("resnet18_last_stride_2").state_dict()}, path)
    return path


def layumis(path: Path) -> Path:
    state = {f"model.{n}": t for n, t in built("resnet18_last_stride_2").state_dict().items()}
    block = {"classifier.add_block.0.weight": torch.randn(64, 512)}
    torch.save({n: t for n, t in state.items() if "classifier" not in n} | block, path)
    return path


Start = Callable[..., list[str]]
Refused = Callable[..., str]
FastReIDFile = Callable[..., Path]


@pytest.fixture
def start(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Load a file into a model; return the warnings."""
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)

    def load(
        architecture: str, path: Path, epochs: int, embedding_dim: int | None = None
    ) -> list[str]:
        model = built(architecture, num_classes=3, embedding_dim=embedding_dim)
        caplog.clear()
        with caplog.at_level(logging.INFO, "pipeline.start_weights"):
            log_start(load_start(model, TrainStage(epochs=epochs, pretrained=path)))
        said, *warnings = caplog.records
        assert f"{path.name}: " in said.message
        return [record.message for record in warnings]

    return load


@pytest.fixture
def refused(start: Start) -> Refused:
    """Take a file as it is, which has to be refused; return the line."""

    def load(architecture: str, path: Path, embedding_dim: int | None = None) -> str:
        with pytest.raises(CheckpointError) as caught:
            start(architecture, path, 0, embedding_dim)
        line = str(caught.value)
        assert line.startswith(f"{path}: train.epochs=0 takes it as it is, but ")
        assert line.endswith("; otherwise train it, with train.epochs")
        return line

    return load


def test_a_random_embedding_layer_is_trained_or_refused(
    tmp_path: Path, start: Start, refused: Refused
) -> None:
    path = torchreids(tmp_path / "resnet18.pth")
    assert start("resnet18_last_stride_2", path, 1, 64) == []
    line = refused("resnet18_last_stride_2", path, 64)
    assert "'embedding.0.weight' of the model is not in the file and stays random; give the" in line
    assert start("resnet18_last_stride_2", path, 0) == []


def test_another_first_pooling(
    tmp_path: Path, fastreid_file: FastReIDFile, start: Start, refused: Refused
) -> None:
    path = fastreid_file(tmp_path / "model_best.pth")
    assert "first pooling without padding; choose resnet18_f" in refused("resnet18_bnneck", path)
    assert len(start("resnet18_bnneck", path, 1)) == 1
    assert start("resnet18_fastreid", path, 0) == []


@pytest.mark.parametrize("epochs", [0, 1])
def test_another_pooling_is_refused(
    tmp_path: Path, fastreid_file: FastReIDFile, start: Start, epochs: int
) -> None:
    path = fastreid_file(tmp_path / "sbs.pth", **{"heads.pool_layer.p": torch.tensor([3.0])})
    with pytest.raises(CheckpointError, match=r"'heads\.pool_layer\.p' is of a pooling that"):
        start("resnet18_fastreid", path, epochs)


def test_other_input_statistics(
    tmp_path: Path, fastreid_file: FastReIDFile, start: Start, refused: Refused
) -> None:
    path = fastreid_file(tmp_path / "halves.pth", pixel_mean=HALVES, pixel_std=HALVES)
    said = (
        "it is for colours with a mean of 0.500 0.500 0.500 taken off and divided by 0.500 0.500 "
        "0.500, and runs take ImageNet's values"
    )
    assert said in refused("resnet18_fastreid", path)
    assert start("resnet18_fastreid", path, 1) == [f"train: halves.pth: {said}"]
    imagenets = {
        "pixel_mean": torch.tensor([123.7, 116.3, 103.5]).view(1, 3, 1, 1),
        "pixel_std": torch.tensor([58.4, 57.1, 57.4]).view(1, 3, 1, 1),
    }
    assert start("resnet18_fastreid", fastreid_file(path, **imagenets), 0) == []


def test_an_embedding_that_is_not_built(tmp_path: Path, start: Start, refused: Refused) -> None:
    path = layumis(tmp_path / "net_last.pth")
    line = refused("resnet18_last_stride_2", path)
    assert "'classifier.add_block.0.weight' is part of the embedding there and is not bu" in line
    assert len(start("resnet18_last_stride_2", path, 1)) == 1
    torch.save(built("resnet18_bnneck").state_dict(), path)
    assert "'bottleneck.bias' is part of the embedding there" in refused("resnet18", path)


def test_our_own_of_another_stride(tmp_path: Path, start: Start, refused: Refused) -> None:
    model, path = built("resnet18"), tmp_path / "checkpoint.pt"
    save_checkpoint(path, model, describe(model, "resnet18", input_size=(64, 32)))
    line = refused("resnet18_last_stride_2", path)
    assert (
        "'layer4.0.conv1' of resnet18, the file's architecture, has another stride or padding"
        in line
    )
    assert start("resnet18", path, 0) == []


def test_random_weights_are_named(caplog: pytest.LogCaptureFixture) -> None:
    assert load_start(built("osnet_x0_25"), TrainStage(epochs=0)) is None
    with caplog.at_level(logging.INFO, "pipeline.start_weights"):
        log_start(None)
    assert [record.message for record in caplog.records] == [
        "train: from random weights; ImageNet or ReID weights: train.pretrained=FILE"
    ]

"""A small OSNet, its images, and its int8 form, made once."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from quantize.exporters.onnx_float import save_onnx
from quantize.static import quantize_static
from reid_edge.core.model_file import ModelMetadata
from reid_edge.models import build_model
from tests.networks import SHORT_OSNET_X0_25


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(12, 3, 64, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def osnet(images: Tensor) -> nn.Module:
    """OSNet x0.25 of one block a stage, with random weights and BatchNorm statistics of the images.

    The networks in ``test_models.py`` have all their blocks.
    """
    torch.manual_seed(0)
    model = build_model(SHORT_OSNET_X0_25).train()
    with torch.no_grad():
        for name, bias in model.named_parameters():
            if name.endswith("gate.fc1.bias"):
                bias.fill_(0.5)  # a gate has one hidden channel, which random weights may silence
        for _ in range(3):
            model(images)
    return model.eval()


@pytest.fixture(scope="session")
def osnet_onnx(osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its float ONNX file, with metadata."""
    path = tmp_path_factory.mktemp("float") / "float.onnx"
    metadata = ModelMetadata("Ö", (64, 32), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
    save_onnx(osnet, images[:1], path, metadata.to_strings())
    return path


@pytest.fixture(scope="session")
def int8_osnet(osnet: nn.Module, images: Tensor) -> fx.GraphModule:
    return quantize_static(osnet, images.split(4))


class WrittenOver(nn.Module):
    """``first`` is the sum too; to torch.fx it is what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        first = y
        y += 1
        return self.conv(y) + first  # type: ignore[no-any-return]


@pytest.fixture
def written_over() -> nn.Module:
    """A network whose trace by torch.fx computes something else."""
    return WrittenOver()

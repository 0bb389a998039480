"""Core ML packages, which are not run here; skipped without coremltools."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.coreml import save_coreml
from reid_edge.core.errors import QuantizeError

coremltools = pytest.importorskip("coremltools")
pytestmark = pytest.mark.slow


def test_a_package_has_its_names_shapes_and_metadata(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    images = torch.randn(2, 3, 16, 8)
    path = tmp_path / "float_b2.mlpackage.zip"
    save_coreml(model, images, path, {"architecture": "Ö"})
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    spec = coremltools.utils.load_spec(str(tmp_path / "float_b2.mlpackage"))
    (given,), (made,) = spec.description.input, spec.description.output
    assert (given.name, made.name) == ("input", "reid_features")
    assert list(given.type.multiArrayType.shape) == [2, 3, 16, 8]
    assert spec.description.metadata.userDefined["architecture"] == "Ö"
    kinds = [op.type for op in operations(spec)]
    # BatchNorm is folded, and the division by the length is there.
    assert kinds.count("conv") == 1
    assert "batch_norm" not in kinds
    assert "real_div" in kinds


def operations(spec: object) -> list[object]:
    function = spec.mlProgram.functions["main"]  # type: ignore[attr-defined]
    return list(function.block_specializations[function.opset].operations)


def test_a_model_that_it_cannot_convert(tmp_path: Path) -> None:
    class Rare(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.linalg.eigvalsh(images[:, 0, :3, :3])

    with pytest.raises(QuantizeError, match="coremltools cannot convert the model: "):
        save_coreml(Rare().eval(), torch.randn(1, 3, 4, 4), tmp_path / "x.mlpackage.zip", {})
    assert not list(tmp_path.iterdir())

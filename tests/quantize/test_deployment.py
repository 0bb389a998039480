"""int8 and files with one call each, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quantize.deployment import export, quantize
from quantize.exporters import EXPORTERS
from quantize.parity import ParityLimits
from reid_edge.core.errors import ModelError, QuantizeError
from reid_edge.core.exporter import ExportSource, in_order
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.backends.torchscript_runtime import read_torchscript_metadata


class Small(nn.Module):
    """Two convolutions and an embedding layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Small().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(9, 3, 16, 8, generator=generator) + torch.randn(
        9, 3, 1, 1, generator=generator
    )


def test_quantize_gives_an_int8_model_and_what_it_costs(model: nn.Module, images: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = quantize(model, images)
    with quantized_engine(result.engine), torch.inference_mode():
        assert result.model(images).shape == (9, 6)
    assert (result.report.int8_convolutions, result.report.convolutions) == (2, 2)
    assert result.agreement.images == 9
    assert 0 < result.agreement.mean_cosine_error < 0.05
    assert "int8 convolutions     2 of 2" in str(result)
    assert "mean 1 - cosine" in str(result)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    in_float = quantize(model, images.split(4), float_layers=["features.0"])
    assert in_float.report.int8_convolutions == 1


def test_what_quantize_refuses(model: nn.Module, images: Tensor) -> None:
    for wrong, message in (
        ([], "no images"),
        (images[0], r"images are \(3, 16, 8\), expected tensors \(N, 3, H, W\)"),
        (["a.jpg"], "images are str, expected tensors"),
    ):
        with pytest.raises(QuantizeError, match=message):
            quantize(model, wrong)  # type: ignore[arg-type]
    with pytest.raises(QuantizeError, match=r"no layer 'features\.9' to leave in float"):
        quantize(model, images, float_layers=["features.9"])
    with pytest.raises(QuantizeError, match="int8 engine 'tpu' is not supported here"):
        quantize(model, images, engine="tpu")  # type: ignore[arg-type]


def test_export_writes_files_that_agree(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    formats = ("torchscript", "onnx", "onnx_int8", "torchscript_int8")
    result = export(
        model, images, tmp_path / "files", formats, metadata=ModelMetadata(architecture="small")
    )
    assert result.problems == []
    assert [file.path.name for file in result.files] == [
        "float.pt", "float.onnx", "int8.onnx", "int8.pt",
    ]  # fmt: skip
    for file in result.files:
        assert file.path.parent == tmp_path / "files"
        assert file.bytes == file.path.stat().st_size
        assert file.parity is not None
        assert file.parity.images == 9
        assert file.parity.lowest_cosine > (0.9 if file.int8 else 0.9999)
    metadata = read_torchscript_metadata(tmp_path / "files" / "int8.pt")
    assert (metadata.architecture, metadata.input_size) == ("small", (16, 8))
    assert (metadata.engine, metadata.variant) == ("qnnpack", "static")
    assert len(metadata.calibration_digest) == 64
    lines = str(result).splitlines()
    assert lines[0].split() == ["file", "size", "cosine", "lowest", "batches", "fits"]
    assert lines[2].startswith("float.onnx")
    assert lines[2].endswith("yes")


def test_one_image_is_enough(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    assert export(model, images[:1], tmp_path, ["onnx"]).problems == []


def test_a_file_that_differs_is_named(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    def write(source: ExportSource, path: Path) -> None:
        other = Small().eval()
        nn.init.normal_(other.fc.weight)
        EXPORTERS.load("onnx").write(replace(source, model=other), path)

    wrong = replace(EXPORTERS.load("onnx"), write=write)
    result = export(model, images, tmp_path, [wrong])
    assert result.problems
    assert all(problem.startswith("float.onnx: ") for problem in result.problems)
    assert "cosine to the model" in str(result)
    lenient = ParityLimits(-1, -1, spread=0, batch_difference=1)
    assert export(model, images, tmp_path, [wrong], float_limits=lenient).problems == []


def test_formats_of_one_batch_and_those_that_are_not_run_here(
    model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    onnx = EXPORTERS.load("onnx")
    fixed = replace(onnx, batching="fixed")
    unseen = replace(onnx, name="unseen", file="c.onnx", unchecked="it runs on a phone")
    result = export(model, images, tmp_path, [fixed, unseen])
    assert result.problems == []
    assert [file.path.name for file in result.files] == ["float_b1.onnx", "c.onnx"]
    assert [file.parity is None for file in result.files] == [False, True]
    assert str(result).splitlines()[-1].endswith("not checked: it runs on a phone")


def test_what_export_refuses(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="unknown file format 'onxx': did you mean 'onnx'"):
        export(model, images, tmp_path, ["onxx"])
    with pytest.raises(QuantizeError, match="onnx_int8 is made of onnx: put onnx in files"):
        export(model, images, tmp_path, ["onnx_int8"])
    with pytest.raises(QuantizeError, match="no images"):
        export(model, [], tmp_path, ["onnx"])
    with pytest.raises(ModelError, match="unknown architecture"):
        export(model, images, tmp_path, ["torchreid"])
    missing = replace(EXPORTERS.load("onnx"), packages=("absent",), extra="absent")
    message = r'onnx needs the package absent: pip install "reid-edge\[absent\]"'
    with pytest.raises(QuantizeError, match=message):
        export(model, images, tmp_path, [missing])
    assert not list(tmp_path.iterdir())


def test_exporters_come_after_what_they_are_made_of() -> None:
    names = ["openvino_int8", "onnx_int8", "openvino", "onnx"]
    ordered = [exporter.name for exporter in in_order(map(EXPORTERS.load, names))]
    assert ordered == ["onnx", "onnx_int8", "openvino_int8", "openvino"]
    onnx = EXPORTERS.load("onnx")
    with pytest.raises(QuantizeError, match="a, b: each is made of the other"):
        in_order([
            replace(onnx, name="a", made_of=("b",)), replace(onnx, name="b", made_of=("a",)),
        ])  # fmt: skip

"""NCNN files; skipped without the packages ncnn and pnnx."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.ncnn import save_ncnn
from quantize.exporters.onnx_float import save_onnx
from reid_edge.core.backends import model_file_parts, recognise
from reid_edge.core.errors import CheckpointError, ModelError, QuantizeError
from reid_edge.inference.embedder import load_embedder

pytestmark = pytest.mark.medium

pytest.importorskip("ncnn")
pytest.importorskip("pnnx")


@pytest.fixture(scope="module")
def ncnn_file(osnet_onnx: Path) -> Path:
    path = osnet_onnx.with_name("float.ncnn.param")
    save_ncnn(osnet_onnx, path)
    return path


@pytest.fixture
def copied(ncnn_file: Path, tmp_path: Path) -> Path:
    for part in model_file_parts(ncnn_file):
        (tmp_path / part.name).write_bytes(part.read_bytes())
    return tmp_path / ncnn_file.name


def test_embeddings_and_metadata(ncnn_file: Path, osnet_onnx: Path, images: Tensor) -> None:
    assert recognise(ncnn_file).name == "ncnn"
    names = [part.name for part in model_file_parts(ncnn_file)]
    assert names == ["float.ncnn.param", "float.ncnn.bin", "float.ncnn.json"]
    embedder = load_embedder(ncnn_file)
    assert embedder.description == "Ö, NCNN"
    assert (embedder.space.input_size, embedder.space.mean) == ((64, 32), (0.5, 0.4, 0.3))
    for size in (1, 5):
        found = embedder.embed(images[:size].numpy())
        expected = load_embedder(osnet_onnx).embed(images[:size].numpy())
        assert np.allclose(found, expected, atol=1e-5)


def test_half_precision_weights_are_half_the_size(
    ncnn_file: Path, osnet_onnx: Path, images: Tensor, tmp_path: Path
) -> None:
    half = tmp_path / "half.ncnn.param"
    save_ncnn(osnet_onnx, half, half=True)
    sizes = [path.with_suffix(".bin").stat().st_size for path in (half, ncnn_file)]
    assert sizes[0] < 0.55 * sizes[1]
    found, exact = (load_embedder(path).embed(images.numpy()) for path in (half, ncnn_file))
    assert not np.array_equal(found, exact)
    assert (found * exact).sum(1).min() > 0.9995


def test_images_of_a_size_whose_rows_ncnn_pads(tmp_path: Path) -> None:
    """NCNN begins every channel at a multiple of 16 bytes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    images = torch.randn(2, 3, 9, 7)
    save_onnx(model, images[:1], tmp_path / "odd.onnx", {})
    save_ncnn(tmp_path / "odd.onnx", tmp_path / "odd.ncnn.param")
    expected = nn.functional.normalize(model(images)).detach().numpy()
    found = load_embedder(tmp_path / "odd.ncnn.param", input_size=(9, 7)).embed(images.numpy())
    assert np.allclose(found, expected, atol=1e-5)


def test_an_operator_that_pnnx_does_not_translate_is_named(tmp_path: Path) -> None:
    class Bounded(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.det(images.flatten(1)[:, :12].reshape(-1, 3, 2, 2))

    save_onnx(Bounded().eval(), torch.randn(1, 3, 2, 2), tmp_path / "float.onnx", {})
    with pytest.raises(QuantizeError, match=r"float\.onnx.*(translate|convert)"):
        save_ncnn(tmp_path / "float.onnx", tmp_path / "float.ncnn.param")
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


def test_files_that_do_not_belong_together(copied: Path) -> None:
    weights, about = copied.with_suffix(".bin"), copied.with_suffix(".json")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    message = r"float\.ncnn\.json: not the metadata of float\.ncnn\.param and float\.ncnn\.bin"
    with pytest.raises(CheckpointError, match=message):
        load_embedder(copied)
    about.write_text("[1")
    with pytest.raises(CheckpointError, match=r"float\.ncnn\.json: not a readable JSON object"):
        load_embedder(copied)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"float\.ncnn\.bin: no such file; .* copy both"):
        load_embedder(copied)


def test_a_file_without_metadata_has_the_defaults(copied: Path) -> None:
    about = copied.with_suffix(".json")
    assert json.loads(about.read_text())["architecture"] == "Ö"
    about.unlink()
    space = load_embedder(copied, input_size=(64, 32)).space
    assert (space.architecture, space.colour_order) == ("", "RGB")


@pytest.mark.parametrize("damage", ["short", "count", "unknown layer", "two inputs"])
def test_a_damaged_graph_is_refused(copied: Path, damage: str) -> None:
    copied.with_suffix(".json").unlink()
    lines = copied.read_text().splitlines()
    if damage == "short":
        lines = lines[:100]
    elif damage == "count":
        lines[1] = "7 x"
    elif damage == "unknown layer":
        lines[5] = lines[5].replace(lines[5].split()[0], "Nothing", 1)
    else:
        layers, blobs = lines[1].split()
        lines[1] = f"{int(layers) + 1} {int(blobs) + 1}"
        lines.insert(2, "Input in1 0 1 in1")
    copied.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"float\.ncnn\.param: (not a readable|has 2 inputs)"):
        load_embedder(copied)


def test_images_that_do_not_fit(ncnn_file: Path) -> None:
    with pytest.raises(
        ModelError, match=r"float\.ncnn\.param: the model fails on images of 4 channels"
    ):
        load_embedder(ncnn_file).embed(np.zeros((1, 4, 64, 32), np.float32))

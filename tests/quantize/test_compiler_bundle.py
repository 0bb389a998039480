"""Archives for compilers that are not run here: what is in them, and the ONNX file among it."""

import ast
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from quantize.exporters.hailo import HAILO
from quantize.exporters.rknn import RKNN
from reid_edge.core.backends import recognise
from reid_edge.core.errors import CheckpointError, QuantizeError
from reid_edge.core.exporter import CalibrationBatches, Exporter, ExportSource
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.embedder import load_embedder

METADATA = ModelMetadata("Ö", (64, 32), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3), threshold=0.5)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 64, 32), generator=generator)


@pytest.fixture(scope="module")
def source(osnet: nn.Module, osnet_onnx: Path, pixels: Tensor) -> ExportSource:
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (METADATA.mean, METADATA.std))
    batches = [(part / 255 - mean) / std for part in pixels.split(3)]
    return ExportSource(
        osnet,
        torch.zeros(1, 3, 64, 32),
        METADATA,
        lambda: CalibrationBatches(batches, "digest"),
        files={"onnx": osnet_onnx},
    )


@pytest.fixture(scope="module")
def archives(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for exporter in (HAILO, RKNN):
        made[exporter.name] = folder / exporter.file_name(source)
        exporter.write(source, made[exporter.name])
    return made


def test_the_name_of_a_node_is_no_code(
    source: ExportSource, osnet_onnx: Path, tmp_path: Path
) -> None:
    model = onnx.load(osnet_onnx)
    name = 'a"] + [b'
    for node in model.graph.node:
        node.name = name
    onnx.save_model(model, tmp_path / "named.onnx")
    files = {"onnx": tmp_path / "named.onnx"}
    HAILO.write(replace(source, files=files), tmp_path / "hailo.zip")
    with zipfile.ZipFile(tmp_path / "hailo.zip") as archive:
        script = ast.parse(archive.read("compile.py"))
    keywords = [node for node in ast.walk(script) if isinstance(node, ast.keyword)]
    (names,) = [each.value for each in keywords if each.arg == "end_node_names"]
    assert ast.literal_eval(names) == [name]


@pytest.mark.parametrize("name", ["hailo", "rknn"])
def test_the_onnx_file_is_static_and_gives_the_models_embeddings(
    archives: dict[str, Path], osnet_onnx: Path, name: str, images: Tensor
) -> None:
    path = archives[name]
    assert recognise(path).name == "bundle"
    embedder = load_embedder(path)
    assert (embedder.space.input_size, embedder.space.mean) == ((64, 32), METADATA.mean)
    found, expected = (
        each.embed(images[:3].numpy()) for each in (embedder, load_embedder(osnet_onnx))
    )
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    assert np.allclose(found / lengths, expected, atol=1e-5)
    with zipfile.ZipFile(path) as archive:
        model = onnx.load_model_from_string(archive.read("model.onnx"))
    assert [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim] == [
        1, 3, 64, 32,
    ]  # fmt: skip
    assert not {"ReduceL2", "Div", "Clip"} & {node.op_type for node in model.graph.node}
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert notes["calibration_digest"] == "digest"
    assert "threshold" not in notes


def test_images_are_those_that_calibrate_other_files(
    archives: dict[str, Path], pixels: Tensor
) -> None:
    expected = pixels.permute(0, 2, 3, 1).numpy()
    with zipfile.ZipFile(archives["hailo"]) as archive:
        found = np.load(io.BytesIO(archive.read("calibration.npy")))
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)
        script = archive.read("model.alls").decode()
    assert script == "normalization1 = normalization([127.5, 102.0, 76.5], [63.75, 51.0, 76.5])\n"
    with zipfile.ZipFile(archives["rknn"]) as archive:
        names = archive.read("dataset.txt").decode().split()
        assert len(names) == 5
        for name, image in zip(names, expected, strict=True):
            read = np.array(Image.open(io.BytesIO(archive.read(name))))
            assert np.array_equal(read, image)


@pytest.mark.parametrize(("name", "script"), [("hailo", "compile.py"), ("rknn", "convert.py")])
def test_scripts_are_python_and_name_what_is_there(
    archives: dict[str, Path], name: str, script: str
) -> None:
    with zipfile.ZipFile(archives[name]) as archive:
        text = archive.read(script).decode()
        compile(text, script, "exec")
        names = {node.name for node in onnx.load_model_from_string(
            archive.read("model.onnx")).graph.node}  # fmt: skip
    if name == "hailo":
        (last,) = [line for line in text.splitlines() if "end_node_names" in line]
        assert last.split('"')[1] in names
    else:
        assert "mean_values=[MEAN]" in text
        assert "MEAN, STD = [127.5, 102.0, 76.5], [63.75, 51.0, 76.5]" in text


def test_the_same_model_gives_the_same_bytes(
    source: ExportSource, archives: dict[str, Path], tmp_path: Path
) -> None:
    RKNN.write(source, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archives["rknn"].read_bytes()


@pytest.mark.parametrize("exporter", [HAILO, RKNN], ids=lambda one: one.name)
def test_no_images(source: ExportSource, exporter: Exporter, tmp_path: Path) -> None:
    empty = replace(source, draw_calibration=lambda: CalibrationBatches([]))
    with pytest.raises(QuantizeError, match="no calibration images: the compiler cannot choose"):
        exporter.write(empty, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_damaged_archives(archives: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(archives["rknn"].read_bytes())
    (tmp_path / "short.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"short\.zip: cut short or damaged; copy it again"):
        load_embedder(tmp_path / "short.zip")
    place = content.index(b"Conv")
    content[place] ^= 1
    (tmp_path / "changed.zip").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"changed\.zip: cut short or damaged"):
        load_embedder(tmp_path / "changed.zip")

"""What works without extras: verifying, enrolling and identifying with an ONNX file."""

import json
from pathlib import Path

import onnx
import pytest
from onnx import helper
from PIL import Image

from tests.packaging.environments import Environment

pytestmark = pytest.mark.medium

FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture
def brightness(tmp_path: Path) -> Path:
    """A model whose embedding of an image is the mean of each colour."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, ["batch", 3, 64, 32])
    made = helper.make_tensor_value_info("output", FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "brightness", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"architecture": "brightness", "input_size": "[64, 32]"})
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def check_commands(environment: Environment, folder: Path) -> None:
    """Verify two images of one colour and two of different colours; enrol and identify."""
    model = ["--weights", "model.onnx", "--json"]
    for name, colour in (("red", (200, 10, 10)), ("dark", (100, 5, 5)), ("blue", (9, 9, 220))):
        Image.new("RGB", (40, 80), colour).save(folder / f"{name}.png")
    for name, same in (("dark", True), ("blue", False)):
        images = ["--img1", "red.png", "--img2", f"{name}.png", "--threshold", "0.5"]
        done = environment.run("reid-edge", "verify", *images, *model, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["same_person"] is same
    people = folder / "people"
    people.mkdir()
    for name in ("red", "blue"):
        (folder / f"{name}.png").rename(people / f"{name}.png")
    done = environment.run("reid-edge", "enrol", "--gallery-dir", "people", *model, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    query = ["--query", "dark.png", "--threshold", "0.5"]
    done = environment.run("reid-edge", "identify", *query, *model, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    (result,) = json.loads(done.stdout)["results"]
    assert result["person"] == "red"


def test_without_torch(light: Environment, brightness: Path) -> None:
    check_commands(light, brightness.parent)


@pytest.mark.slow
def test_with_what_pip_installs(wheel: Path, brightness: Path, tmp_path: Path) -> None:
    check_commands(Environment(tmp_path / "environment", wheel), brightness.parent)

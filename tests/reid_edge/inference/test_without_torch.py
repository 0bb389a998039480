"""An ONNX file is used with the light installation: PyTorch and its packages cannot be imported."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from reid_edge.data.schema import ReidData

pytestmark = pytest.mark.medium

# Refuses the packages of the extra `compress`, as if they were not installed.
PROGRAM = """
import importlib.util
import sys

REFUSED = {"torch", "torchvision", "lightning", "nni", "onnx", "scipy", "sklearn"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in REFUSED else find_spec(name, *rest)
sys.meta_path.insert(0, Refuse())
"""
COMMAND = """
from reid_edge.cli.main import main
code = main(sys.argv[1:])
assert not REFUSED & {name.partition(".")[0] for name in sys.modules}
sys.exit(code)
"""


def python(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + program, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def command(*arguments: object) -> str:
    finished = python(COMMAND, *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny convolution with global pooling, from images of 64 x 32 to four numbers."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    shapes = {"input": ["batch", 3, 64, 32], "output": ["batch", 4]}
    given, made = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    )
    tensors = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "tiny", [given], [made], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {"architecture": "tiny", "input_size": "[64, 32]"})
    path = tmp_path_factory.mktemp("light") / "tiny.onnx"
    onnx.save(proto, path)
    return path


def test_verify_enrol_and_identify(model: Path, tiny_data: ReidData, tmp_path: Path) -> None:
    first, second = tiny_data.query[0].path, tiny_data.query[1].path
    decision = json.loads(
        command("verify", "--img1", first, "--img2", first, "--weights", model, "--threshold", 0.9,
                "--json")
    )  # fmt: skip
    assert decision["same_person"]
    assert decision["similarity"] == pytest.approx(1, abs=1e-6)

    people, index = tmp_path / "people", tmp_path / "index"
    people.mkdir()
    for name, image in (("ann", first), ("bob", second)):
        shutil.copy(image, people / f"{name}.jpg")
    enrolled = command(
        "enrol", "--gallery-dir", people, "--index", index, "--weights", model, "--workers", 2
    )
    assert "2 images enrolled" in enrolled
    found = json.loads(
        command("identify", "--query", first, "--index", index, "--threshold", 0.9, "--json")
    )
    assert found["results"][0]["person"] == "ann"


def test_the_embeddings_are_those_of_a_program_with_torch(model: Path, tiny_data: ReidData) -> None:
    from reid_edge.inference.embedder import embed_files, load_embedder

    paths = [image.path for image in tiny_data.query[:7]]
    program = """
from pathlib import Path
from reid_edge.inference.embedder import embed_files, load_embedder
embedder = load_embedder(Path(sys.argv[1]), flip_averaging=True)
print(embed_files(embedder, [Path(text) for text in sys.argv[2:]], batch_size=3).tolist())
"""
    finished = python(program, model, *paths)
    assert finished.stderr == ""
    expected = embed_files(load_embedder(model, flip_averaging=True), paths, batch_size=3)
    assert np.array_equal(np.array(json.loads(finished.stdout), dtype=np.float32), expected)


def test_what_needs_torch_says_so_in_one_line(
    model: Path, checkpoint_file: Path, tiny_market: Path
) -> None:
    finished = python(COMMAND, "evaluate", "--weights", model, "--data", tiny_market)
    assert finished.returncode == 2
    assert finished.stderr == (
        "error: this command needs PyTorch: pip install 'reid-edge[compress]'\n"
    )
    image = next((tiny_market / "query").iterdir())
    finished = python(
        COMMAND, "verify", "--img1", image, "--img2", image, "--weights", checkpoint_file,
        "--threshold", 0.5,
    )  # fmt: skip
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {checkpoint_file}: needs the package torch: pip ")
    assert finished.stderr.count("\n") == 1

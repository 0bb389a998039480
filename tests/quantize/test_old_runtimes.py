"""ONNX files in old versions of ONNX Runtime, each in an environment of its own.

``python -m pytest -m slow tests/quantize/test_old_runtimes.py``; versions that have no wheel for
this Python are skipped. 1.15.0 is the oldest for Python 3.11.
"""

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.onnx_float import save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from reid_edge.models import build_model

pytestmark = pytest.mark.medium

PROGRAM = """
import sys
import numpy, onnxruntime
print(onnxruntime.__version__)
images = numpy.load(sys.argv[1])
for name in sys.argv[2:]:
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    numpy.save(name + ".npy", session.run(["reid_features"], {"input": images})[0])
"""


class Attention(nn.Module):
    """Has a layer that ONNX has since operator set 14."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(2)


@pytest.fixture(scope="module")
def files(
    osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    small = images[:, :, :16, :8].contiguous()
    found = {"osnet": folder / "float.onnx"}
    save_onnx(osnet, images[:1], found["osnet"], {"architecture": "osnet_x0_25"})
    for batch in (1, 4):
        found[f"b{batch}"] = folder / f"float_b{batch}.onnx"
        tiny = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        save_onnx(tiny, small[:1], found[f"b{batch}"], {}, batch=batch)
    found["attention"] = folder / "attention.onnx"
    save_onnx(Attention().eval(), small[:1], found["attention"], {})
    return found


@pytest.fixture(scope="module")
def int8_file(files: dict[str, Path], images: Tensor) -> Path:
    path = files["osnet"].with_name("int8.onnx")
    quantize_onnx(files["osnet"], images.split(4), path, method="minmax")
    return path


def test_files_import_what_their_nodes_use_in_the_oldest_version(files: dict[str, Path]) -> None:
    opsets = {}
    for name, path in files.items():
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} == {""}
        (only,) = model.opset_import
        opsets[name] = (only.domain, only.version, model.ir_version)
    attention = opsets.pop("attention")
    assert set(opsets.values()) == {("", 13, 7)}
    assert attention == ("", 14, 7)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.15.0", "1.16.3", "1.17.0", "1.20.1", "1.24.4"])
def test_old_versions_give_the_same_embeddings(
    version: str, files: dict[str, Path], int8_file: Path, images: Tensor, osnet: nn.Module,
    tmp_path: Path,
) -> None:  # fmt: skip
    venv.create(tmp_path / "env", symlinks=True)
    python = str(tmp_path / "env" / "bin" / "python")
    numpy = "numpy<2" if version < "1.19" else "numpy"
    install = ["-m", "pip", "--quiet", "--python", python, "install", f"onnxruntime=={version}"]
    if subprocess.run([sys.executable, *install, numpy], check=False).returncode:
        pytest.skip(f"onnxruntime {version} does not install here")
    np.save(tmp_path / "images.npy", images.numpy())
    names = [str(files["osnet"]), str(int8_file)]
    done = subprocess.run(
        [python, "-c", PROGRAM, str(tmp_path / "images.npy"), *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == version
    with torch.inference_mode():
        expected = nn.functional.normalize(osnet(images)).numpy()
    for name, least in zip(names, (0.99999, 0.99), strict=True):
        assert (np.load(f"{name}.npy") * expected).sum(1).min() > least


def test_models_of_other_families_keep_to_the_oldest_operator_set(tmp_path: Path) -> None:
    for name in ("osnet_ain_x0_25", "resnet18_x0_5"):
        model = build_model(name).eval()
        save_onnx(model, torch.zeros(1, 3, 64, 32), tmp_path / "a.onnx", {})
        (only,) = onnx.load(tmp_path / "a.onnx").opset_import
        assert only.version == 13

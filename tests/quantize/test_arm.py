"""int8 files on an emulated 64-bit ARM machine: ``make test-arm``, which sets it up in .arm/."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantize.deployment import export
from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.exporters.torchscript import save_torchscript
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.core.model_file import ONNX_INPUT

ROOT = Path(__file__).resolve().parents[2]
ARM = ROOT / ".arm"
LEAST_COSINE = 0.98
# Cosine to the same file's embeddings on this machine: other kernels round otherwise.
LEAST_AGREEMENT = 0.999

pytestmark = pytest.mark.arm


@pytest.fixture(scope="module", autouse=True)
def _emulator() -> None:
    if not (ARM / "ready").is_file():
        pytest.fail("no emulated machine in .arm/: benchmarks/arm/prepare.sh makes it")


def on_arm(path: Path, images: Tensor) -> Tensor:
    """Run a model file on the emulated machine."""
    given, made = path.with_suffix(".images.npy"), path.with_suffix(".embeddings.npy")
    np.save(given, images.numpy())
    command = [
        *(ARM / "host/usr/bin/qemu-aarch64-static", "-cpu", "neoverse-n1"),
        *("-L", ARM / "root", "-E", f"PYTHONPATH={ARM / 'site'}", "-E", "OMP_NUM_THREADS=1"),
        *(ARM / "root/usr/bin/python3.11", ROOT / "benchmarks/arm/run_model.py"),
        *(path, given, made, "1"),
    ]
    finished = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return torch.from_numpy(np.load(made))


def check(found: Tensor, here: Tensor, expected: Tensor) -> None:
    assert F.cosine_similarity(found, here).min() >= LEAST_AGREEMENT
    assert F.cosine_similarity(found, expected).min() >= LEAST_COSINE


def test_torchscript_on_qnnpack(
    osnet: nn.Module, int8_osnet: fx.GraphModule, images: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "int8.pt"
    save_torchscript(int8_osnet, images[:1], path, {}, engine="qnnpack")
    with quantized_engine("qnnpack"), torch.inference_mode():
        check(on_arm(path, images), int8_osnet(images), osnet(images))


def test_onnx(osnet: nn.Module, images: Tensor, tmp_path: Path) -> None:
    source, path = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    save_onnx(osnet, images[:1], source, {})
    quantize_onnx(source, [images], path)
    (here,) = onnx_session(path).run(None, {ONNX_INPUT: images.numpy()})
    with torch.inference_mode():
        check(on_arm(path, images), torch.from_numpy(here), osnet(images))


@pytest.fixture
def engine_folder(osnet: nn.Module, images: Tensor, tmp_path: Path) -> Path:
    """The folder of the C engine; ``test.bits`` are the embeddings that this machine gives."""
    export(osnet, images, tmp_path, ["onnx", "onnx_int8", "c"])
    return tmp_path / "model_c"


@pytest.mark.parametrize("cpu", ["max", "neoverse-n1", "cortex-a72"])
def test_the_c_engine_gives_the_bits_of_this_machine(engine_folder: Path, cpu: str) -> None:
    """From its Makefile alone, with kernels for i8mm, for dot products, and without either."""
    make = ["make", "-C", engine_folder, f"CC={ARM / 'cc'}", "model_test"]
    subprocess.run([str(part) for part in make], check=True)
    command = [
        *(ARM / "host/usr/bin/qemu-aarch64-static", "-cpu", cpu, "-L", ARM / "root"),
        engine_folder / "model_test",
    ]
    finished = subprocess.run(
        [str(part) for part in command],
        cwd=engine_folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    expected = {"max": "neon_i8mm", "neoverse-n1": "neon_dotprod", "cortex-a72": "portable"}
    assert (engine_folder / "test.bits").is_file()
    assert f"{expected[cpu]:12} bits as expected" in finished.stdout

"""The Python code of the README runs from its first line to its last, as a reader copies it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quantize.exporters.onnx_float import save_onnx
from reid_edge.models.registry import build_model

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]
README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
# Another size of the embedding than torchreid's, so that nothing relies on that.
DIMENSIONS = 32
SMALL = {
    "stages": ["train", "prune", "quantize"],
    "threads": 1,
    "data.workers": 0,
    "data.height": 64,
    "data.width": 32,
    "model.architecture": "short_osnet_x0_5",
    "model.embedding_dim": DIMENSIONS,
    "prune.target": "short_osnet_x0_25",
    "prune.iterations": 1,
    "prune.reconstruction_images": 8,
    "prune.recalibration_images": 8,
    "prune.criterion_images": 8,
    "prune.tuning.epochs": 0,
    "train.epochs": 1,
    "train.identities_per_batch": 4,
    "train.images_per_identity": 2,
    "quantize.calibration_images": 8,
    "quantize.observer": "minmax",
    "latency.rounds": 2,
}


@pytest.fixture
def folder(tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the images and the ONNX file that the README has."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").symlink_to(tiny_market)
    path = tmp_path / "runs" / "files" / "int8.onnx"
    path.parent.mkdir(parents=True)
    network = build_model("short_osnet_x0_5", num_classes=2, embedding_dim=DIMENSIONS).eval()
    save_onnx(network, torch.zeros(1, 3, 64, 32), path, {"input_size": "[64, 32]"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def detections() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield two frames with two persons each."""
    random = np.random.default_rng(0)
    for _ in range(2):
        boxes = np.array([[0, 0, 30, 60], [40, 10, 70, 80]])
        yield random.integers(0, 256, (90, 80, 3), dtype=np.uint8), boxes


def run(code: str, left: dict[str, Any]) -> dict[str, Any]:
    """Run code; return what it leaves."""
    exec(compile(code, str(README), "exec"), left)
    return left


def test_a_loop_over_frames(folder: Path) -> None:
    tracker, _, _ = BLOCKS
    left = run(tracker.replace("runs/mine/export", "runs/files"), {"detections": detections})
    assert left["known"].shape == (4, DIMENSIONS)
    assert np.allclose(np.linalg.norm(left["known"], axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_a_run_and_its_int8_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, pipeline, int8 = BLOCKS
    given = 'settings={"data.root": str(folder)}'
    assert given in pipeline
    run(pipeline.replace(given, f"{given} | small"), {"small": SMALL})
    first, second = map(float, capsys.readouterr().out.split())
    assert 0 <= first <= 1
    assert second == pytest.approx(first, abs=0.05)
    size = "height, width = 256, 128"
    assert size in int8
    left = run(int8.replace(size, "height, width = 64, 32"), {})
    assert left["embeddings"].shape == (1, DIMENSIONS)

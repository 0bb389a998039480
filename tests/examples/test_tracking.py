"""The examples for trackers run; those with BoxMOT and Ultralytics where these are installed.

In an environment of its own: ``pip install boxmot==25.0.0 ultralytics==8.4.190``.
"""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from quantize.exporters.onnx_float import save_onnx
from reid_edge.inference.frames import Embedder
from reid_edge.models.registry import build_model
from reid_edge.tracking.tracker_files import write_tracker_files

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
THRESHOLD = 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained OSNet x0.25 for images of 64 x 32, as ONNX."""
    torch.manual_seed(0)
    network = build_model("osnet_x0_25", num_classes=4).eval()
    path = tmp_path_factory.mktemp("export") / "float.onnx"
    metadata = {"architecture": "osnet_x0_25", "input_size": "[64, 32]"}
    save_onnx(network, torch.zeros(1, 3, 64, 32), path, metadata)
    return path


@pytest.fixture(scope="module")
def trackers(model: Path) -> Path:
    folder = model.parent / "trackers" / "float"
    write_tracker_files(model, folder, THRESHOLD, "of the test")
    return folder


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_mot: Path
) -> Callable[..., tuple[dict[str, object], list[str]]]:
    def run_example(name: str, folder: Path) -> tuple[dict[str, object], list[str]]:
        monkeypatch.setattr(sys, "argv", [name, str(tiny_mot / "SYN-01"), str(folder)])
        left = runpy.run_path(str(EXAMPLES / name))
        return left, capsys.readouterr().out.splitlines()

    return run_example


def test_a_folder_of_frames(run: Callable[..., tuple], model: Path, tmp_path: Path) -> None:
    left, lines = run("track_frames.py", model)
    assert len(lines) == 20
    assert lines[0].startswith("000001.jpg: ")
    assert lines[0].endswith("persons, most similar to one before: -")
    assert sum(" before: 0." in line or " before: 1." in line for line in lines) > 10
    expected = Embedder(model)(left["frame"], left["boxes"])
    assert np.allclose(left["features"], expected, atol=1e-5)
    with pytest.raises(SystemExit, match=r"error: .*none\.onnx: no such file"):
        run("track_frames.py", tmp_path / "none.onnx")


def test_boxmot(
    run: Callable[..., tuple], trackers: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = pytest.importorskip("boxmot.reid.backends.onnx_backend", exc_type=ImportError)
    # It would install a version of its own over the one that these tests run on.
    monkeypatch.setattr(backend.ONNXBackend, "_ensure_onnxruntime_installed", lambda _: None)
    left, lines = run("track_boxmot.py", trackers)
    assert lines[-1] == f"SYN-01: {len(left['numbers'])} tracks"
    assert 1 <= len(left["numbers"]) <= 40
    assert left["tracker"].appearance_thresh == pytest.approx(1 - THRESHOLD)
    assert Path(left["reid"].artifact) == model.resolve()
    # OpenCV resizes without a filter, so that the embeddings are similar, not the same.
    theirs = backend.ONNXBackend(model, torch.device("cpu"), half=False, preprocess="resize")
    assert theirs.input_shape == (64, 32)
    frame = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    whole = np.array([[0, 0, 32, 64]])  # a crop that is not resized
    ours = Embedder(model)(frame, whole)
    assert np.allclose(theirs.get_features(whole, frame), ours, atol=1e-4)


def test_ultralytics(run: Callable[..., tuple], trackers: Path, model: Path) -> None:
    pytest.importorskip("ultralytics.trackers.bot_sort", exc_type=ImportError)
    left, lines = run("track_ultralytics.py", trackers)
    assert lines[-1] == f"SYN-01: {len(left['numbers'])} tracks"
    assert 1 <= len(left["numbers"]) <= 40
    encoder = left["tracker"].encoder
    assert encoder.imgsz == (64, 32)
    # Its crops are 2 % and 10 pixels larger: all of a frame stays all of it.
    frame = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    (theirs,) = encoder(frame, np.array([[16.0, 32.0, 32.0, 64.0]]))
    ours = Embedder(model)(frame, [[0, 0, 32, 64]])
    assert np.allclose(theirs / np.linalg.norm(theirs), ours[0], atol=1e-4)
    assert left["tracker"].appearance_thresh == pytest.approx((1 + THRESHOLD) / 2)

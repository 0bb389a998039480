"""Embeddings of boxes in a frame: equal to those of the crops in files, for any boxes."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

import reid_edge
from reid_edge.core.errors import CheckpointError, DataError, ModelError, QuantizeError
from reid_edge.inference.embedder import embed_files, load_embedder, unit_vectors
from reid_edge.inference.frames import Embedder, crop_boxes
from reid_edge.tracking.tracker_files import write_tracker_files

FLOAT = onnx.TensorProto.FLOAT
BOXES = np.array(
    [
        [3.0, 5.0, 40.0, 90.0],
        [10.4, 20.6, 30.5, 70.2],  # rounded
        [-20.0, -7.0, 25.0, 60.0],  # cut off at the left and above
        [100.0, 80.0, 900.0, 900.0],  # cut off at the right and below
        [50.0, 50.0, 51.0, 51.0],  # one pixel
        [0.0, 0.0, 160.0, 120.0],  # all
        [60.0, 10.0, 75.0, 44.0],
    ]
)
NOTHING = np.array(
    [
        [200.0, 10.0, 240.0, 90.0],  # right of the frame
        [-90.0, -90.0, -10.0, -10.0],
        [20.0, 20.0, 20.0, 60.0],  # no width
        [40.0, 60.0, 20.0, 10.0],  # the wrong way round
        [np.nan, 5.0, 30.0, 60.0],
        [0.0, 0.0, np.inf, 60.0],
    ]
)


def save_model(path: Path, batch: int | str) -> Path:
    """Write a convolution with global pooling, from images of 64 x 32 to five numbers."""
    weight = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given, made = (
        helper.make_tensor_value_info(name, FLOAT, shape)
        for name, shape in (("input", [batch, 3, 64, 32]), ("output", [batch, 5]))
    )
    graph = helper.make_graph(
        nodes, "tiny", [given], [made], [numpy_helper.from_array(weight, "weight")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"architecture": "tiny", "input_size": "[64, 32]"})
    onnx.save(model, path)
    return path


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "int8.onnx", "batch")


def of_files(model: Path, frame: np.ndarray, folder: Path) -> np.ndarray:
    """What the crops in PNG files get, from the product's own functions."""
    paths = []
    for number, crop in enumerate(crop_boxes(frame, BOXES)):
        assert crop is not None
        paths.append(folder / f"{number}.png")
        Image.fromarray(crop[..., ::-1]).save(paths[-1])
    return unit_vectors(embed_files(load_embedder(model), paths))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_embeddings_are_those_of_the_crops_in_files(
    model: Path, frame: np.ndarray, tmp_path: Path, batch_size: int
) -> None:
    expected = of_files(model, frame, tmp_path)
    assert len(np.unique(expected.round(3), axis=0)) == len(BOXES)
    embedder = reid_edge.Embedder(str(model), threads=1, batch_size=batch_size)
    features = embedder(frame, BOXES)
    assert features.dtype == np.float32
    assert np.abs(features - expected).max() <= 1e-5
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_the_checkpoint_of_a_network(
    checkpoint_file: Path, frame: np.ndarray, tmp_path: Path
) -> None:
    expected = of_files(checkpoint_file, frame, tmp_path)
    assert np.abs(Embedder(checkpoint_file)(frame, BOXES) - expected).max() <= 1e-5


@pytest.mark.parametrize("batch", [1, 4])
def test_a_file_with_a_fixed_batch(frame: np.ndarray, tmp_path: Path, batch: int) -> None:
    free = Embedder(save_model(tmp_path / "free.onnx", "batch"))
    fixed = Embedder(save_model(tmp_path / "fixed.onnx", batch))
    assert np.allclose(fixed(frame, BOXES), free(frame, BOXES), atol=1e-6)
    assert fixed(frame, []).shape == (0, 5)


@pytest.mark.parametrize("order", ["uint8-rgb", "uint8-bgr"])
def test_a_file_that_takes_pixels(frame: np.ndarray, tmp_path: Path, order: str) -> None:
    path = tmp_path / "pixels.onnx"
    model = onnx.load(save_model(path, "batch"))
    (given,) = model.graph.input
    given.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node[0].input[0] = "floats"
    model.graph.node.insert(0, helper.make_node("Cast", ["input"], ["floats"], to=FLOAT))
    helper.set_model_props(
        model, {"architecture": "tiny", "input_size": "[64, 32]", "input_form": order}
    )
    onnx.save(model, path)
    expected = of_files(path, frame, tmp_path)
    features = Embedder(path)(frame, BOXES)
    assert np.abs(features - expected).max() <= 1e-5
    assert Embedder(path)(frame, []).shape == (0, 5)
    with pytest.raises(QuantizeError, match="takes images of uint8; trackers give it float images"):
        write_tracker_files(path, tmp_path / "trackers")


def test_the_colours_are_blue_green_red(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", FLOAT, ["n", 3, 8, 4])
    made = helper.make_tensor_value_info("output", FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "mean", [given], [made])
    mean = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kept = {"input_size": "[8, 4]", "mean": "[0, 0, 0]", "std": "[1, 1, 1]"}
    helper.set_model_props(mean, {"architecture": "mean", **kept})
    onnx.save(mean, tmp_path / "mean.onnx")
    blue = np.zeros((20, 20, 3), dtype=np.uint8)
    blue[..., 0] = 255
    assert np.allclose(Embedder(tmp_path / "mean.onnx")(blue, [[2, 2, 9, 19]]), [[0, 0, 1]])


def test_boxes_with_nothing_in_them_are_rows_of_zeros(model: Path, frame: np.ndarray) -> None:
    embedder = Embedder(model)
    assert crop_boxes(frame, NOTHING) == [None] * len(NOTHING)
    assert np.array_equal(embedder(frame, NOTHING), np.zeros((len(NOTHING), 5)))
    mixed = np.stack([NOTHING[0], BOXES[0], NOTHING[4], BOXES[1]])
    features = embedder(frame, mixed)
    assert np.array_equal(features[[0, 2]], np.zeros((2, 5)))
    assert np.allclose(features[[1, 3]], embedder(frame, BOXES[:2]), atol=1e-6)


def test_no_boxes(model: Path, frame: np.ndarray) -> None:
    for boxes in ([], np.empty((0, 4)), SimpleNamespace(xyxy=np.empty((0, 4)))):
        features = Embedder(model)(frame, boxes)
        assert (features.shape, features.dtype) == ((0, 5), np.float32)
    assert Embedder(model).dimensions == 5


def test_what_has_boxes(model: Path, frame: np.ndarray) -> None:
    embedder = Embedder(model)
    expected = embedder(frame, BOXES)
    assert np.array_equal(embedder(frame, SimpleNamespace(xyxy=BOXES)), expected)
    assert np.array_equal(embedder(frame, BOXES.tolist()), expected)
    supervision = pytest.importorskip("supervision")
    detections = supervision.Detections(xyxy=BOXES.astype(np.float32))
    assert np.allclose(embedder(frame, detections), expected, atol=1e-6)
    assert embedder(frame, supervision.Detections.empty()).shape == (0, 5)


@pytest.mark.parametrize(
    ("frame", "boxes", "message"),
    [
        (np.zeros((9, 9), np.uint8), BOXES, r"a frame of \(9, 9\): expected an array \(height"),
        (np.zeros((9, 9, 4), np.uint8), BOXES, r"a frame of \(9, 9, 4\): expected"),
        (np.zeros((9, 9, 3), np.float32), BOXES, "a frame of float32: expected uint8"),
        ([[1]], BOXES, "a frame of list: expected"),
        (np.zeros((9, 9, 3), np.uint8), [1.0, 2, 3, 4], r"boxes of shape \(4,\): expected \(N, 4"),
        (np.zeros((9, 9, 3), np.uint8), np.ones((2, 6)), r"boxes of shape \(2, 6\): expected"),
        (np.zeros((9, 9, 3), np.uint8), [["a"] * 4], r"boxes that are no numbers .*expected"),
    ],
)
def test_other_forms_are_refused(frame: object, boxes: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        crop_boxes(frame, boxes)  # type: ignore[arg-type]


def test_what_cannot_be_set_or_loaded(model: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"threads": 0}, "threads: 0; expected 1 or more"),
        ({"batch_size": 0}, "batch_size: 0; expected 1 or more"),
    ):
        with pytest.raises(ModelError, match=message):
            Embedder(model, **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="give them to load_embedder"):
        Embedder(load_embedder(model), threads=1)
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        Embedder(tmp_path / "none.onnx")


def test_it_needs_numpy_pillow_and_the_runtime_alone(model: Path) -> None:
    program = """
import sys
import numpy as np
from reid_edge import Embedder
assert Embedder(sys.argv[1], threads=1)(np.zeros((9, 9, 3), np.uint8), [[0, 0, 5, 5]]).any()
heavy = {"torch", "torchvision", "scipy", "onnx", "faiss", "pydantic", "rich", "cv2"}
print(sorted(heavy & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(model)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")

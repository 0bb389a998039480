"""Configuration files for trackers: what they say, and that the model in them embeds the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from reid_edge.core.errors import CheckpointError, ModelError
from reid_edge.core.io import hash_file
from reid_edge.inference.embedder import load_embedder
from reid_edge.inference.frames import Embedder
from reid_edge.inference.thresholds import StoredThreshold, store_threshold
from reid_edge.tracking.tracker_files import FILES, write_beside_export, write_tracker_files
from tests.reid_edge.tracking.sequences import save_colour_model

FRAME = np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)
BOXES = [[3, 5, 40, 80], [50, 10, 90, 85], [10, 0, 33, 60]]


def save_model(path: Path, batch: int | str = "batch", **metadata: object) -> Path:
    """Write a convolution with global pooling, from images of 64 x 32 to five numbers."""
    weight = np.random.default_rng(0).standard_normal((5, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given, made = (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("input", [batch, 3, 64, 32]), ("output", [batch, 5]))
    )
    tensors = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "tiny", [given], [made], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = {"architecture": "tiny", "input_size": [64, 32], **metadata}
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    helper.set_model_props(model, texts)
    onnx.save(model, path)
    return path


def test_files_of_every_tracker(tmp_path: Path) -> None:
    model = save_model(tmp_path / "float.onnx")
    folder = tmp_path / "trackers" / "float"
    files = write_tracker_files(model, folder, 0.62, "given here")
    assert sorted(files) == sorted(folder.iterdir())

    reid = yaml.safe_load((folder / "boxmot-reid.yaml").read_text())
    assert (folder / reid["artifact"]["path"]).resolve() == model.resolve()
    assert reid["artifact"]["sha256"] == hash_file(model)
    assert (reid["backend"], reid["preprocessing"]) == ("onnx", "resize")
    assert reid["options"] == {"image_size": [64, 32]}
    botsort = yaml.safe_load((folder / "boxmot-botsort.yaml").read_text())
    assert botsort == {"tracker": "botsort", "use_embeddings": True, "appearance_thresh": 0.38}

    ultralytics = yaml.safe_load((folder / "ultralytics-botsort.yaml").read_text())
    assert ultralytics["appearance_thresh"] == 0.81  # (1 + 0.62) / 2
    assert ultralytics["with_reid"] is True
    assert (folder / ultralytics["model"]).is_file()

    deepstream = yaml.safe_load((folder / "deepstream-tracker.yml").read_text())
    assert deepstream["ReID"]["inferDims"] == [3, 64, 32]
    assert (deepstream["ReID"]["reidFeatureSize"], deepstream["ReID"]["batchSize"]) == (5, 100)
    assert deepstream["ReID"]["netScaleFactor"] == pytest.approx(1 / 255, abs=1e-9)
    assert deepstream["ReID"]["onnxFile"] == "normalising.onnx"
    assert deepstream["TrajectoryManagement"]["minMatchingScore4ReidSimilarity"] == 0.62
    for name in ("boxmot-botsort.yaml", "ultralytics-botsort.yaml", "deepstream-tracker.yml"):
        assert "Cosine similarity 0.6200: given here" in (folder / name).read_text()


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_normalising_file_embeds_the_same(tmp_path: Path, order: str) -> None:
    model = save_model(
        tmp_path / "m.onnx", colour_order=order, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25]
    )
    files = write_tracker_files(model, tmp_path / "out")
    made = load_embedder(tmp_path / "out" / "normalising.onnx")
    assert (made.space.mean, made.space.std, made.space.colour_order) == (
        (0, 0, 0), (1, 1, 1), "RGB",
    )  # fmt: skip
    assert np.allclose(Embedder(made)(FRAME, BOXES), Embedder(model)(FRAME, BOXES), atol=1e-6)
    # BoxMOT knows ImageNet's mean and std, and RGB alone.
    assert [path.name for path in files if "boxmot" in path.name] == []


def test_thresholds_from_the_file_and_from_beside_it(tmp_path: Path) -> None:
    def similarity(model: Path) -> tuple[float, str]:
        write_tracker_files(model, tmp_path / "out")
        text = (tmp_path / "out" / "ultralytics-botsort.yaml").read_text()
        return yaml.safe_load(text)["appearance_thresh"], text

    found, text = similarity(save_model(tmp_path / "none.onnx"))
    assert found == 0.8
    assert "The tracker's default: no threshold of this model has been measured" in text
    assert "appearance_thresh" not in (tmp_path / "out" / "boxmot-botsort.yaml").read_text()
    noted = save_model(tmp_path / "noted.onnx", threshold=0.5)
    found, text = similarity(noted)
    assert found == 0.75
    assert "Cosine similarity 0.5000: equal error rate, in the file's metadata" in text
    store_threshold(load_embedder(noted), StoredThreshold(0.7, 1e-3, "market", 10, 1000))
    found, text = similarity(noted)
    assert found == 0.85
    assert "Cosine similarity 0.7000: FAR 0.001 on market" in text


def test_a_fixed_batch_is_deepstreams(tmp_path: Path) -> None:
    write_tracker_files(save_model(tmp_path / "m.onnx", 8), tmp_path)
    text = (tmp_path / "deepstream-tracker.yml").read_text()
    assert yaml.safe_load(text)["ReID"]["batchSize"] == 8
    assert yaml.safe_load(text)["ReID"]["modelEngineFile"].endswith("_b8_gpu0_fp16.engine")


def is_flag(value: object) -> bool:
    return value in (0, 1)


def is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def is_share(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


def is_file_name(value: object) -> bool:
    return isinstance(value, str) and Path(value).name == value


# Keys of the low-level tracker's modules Object Re-ID and Trajectory Management, with the values
# that they take: the tables of the page Gst-nvtracker in NVIDIA's DeepStream development guide.
DEEPSTREAM_KEYS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "ReID": {
        "reidType": lambda value: value in range(4),
        "batchSize": is_count,
        "workspaceSize": is_count,
        "reidFeatureSize": is_count,
        "reidHistorySize": is_count,
        "inferDims": lambda value: len(value) == 3 and all(map(is_count, value)),
        "networkMode": lambda value: value in range(3),
        "inputOrder": is_flag,
        "colorFormat": is_flag,
        "offsets": lambda value: len(value) == 3 and all(isinstance(x, float) for x in value),
        "netScaleFactor": lambda value: isinstance(value, float) and value > 0,
        "keepAspc": is_flag,
        "useVPICropScaler": is_flag,
        "addFeatureNormalization": is_flag,
        "minVisibility4GalleryUpdate": is_share,
        "outputReidTensor": is_flag,
        "tltEncodedModel": is_file_name,
        "tltModelKey": lambda value: isinstance(value, str),
        "onnxFile": is_file_name,
        "modelEngineFile": is_file_name,
        "calibrationTableFile": is_file_name,
    },
    "TrajectoryManagement": {
        "useUniqueID": is_flag,
        "enableReAssoc": is_flag,
        "minMatchingScore4Overall": is_share,
        "minTrackletMatchingScore": is_share,
        "minMatchingScore4ReidSimilarity": is_share,
        "matchingScoreWeight4TrackletSimilarity": is_share,
        "matchingScoreWeight4ReidSimilarity": is_share,
        "reidExtractionInterval": lambda value: isinstance(value, int) and value >= -1,
    },
}


@pytest.mark.parametrize("threshold", [None, 0.62, -0.3, 1.0])
def test_deepstream_knows_the_keys_and_their_values(
    tmp_path: Path, threshold: float | None
) -> None:
    write_tracker_files(save_model(tmp_path / "m.onnx"), tmp_path, threshold)
    found = yaml.safe_load((tmp_path / "deepstream-tracker.yml").read_text())
    assert found.keys() == DEEPSTREAM_KEYS.keys()
    for section, keys in DEEPSTREAM_KEYS.items():
        for key, value in found[section].items():
            assert key in keys, f"{section} has no {key}"
            assert keys[key](value), f"{section}: {key}: {value}"
    reid, trajectory = found["ReID"], found["TrajectoryManagement"]
    # Re-association alone; the file takes RGB (N, 3, H, W), and gives float embeddings.
    assert (reid["reidType"], reid["inputOrder"], reid["colorFormat"]) == (2, 0, 0)
    assert reid["networkMode"] == 1
    assert trajectory["enableReAssoc"] == 1
    # NVIDIA's file names a TAO model in some versions; which of two is read is not documented.
    text = (tmp_path / "deepstream-tracker.yml").read_text()
    assert "remove tltEncodedModel and tltModelKey" in text


def test_an_int8_file_is_not_for_deepstream(tmp_path: Path) -> None:
    model = onnx.load(save_model(tmp_path / "m.onnx"))
    scale = [
        numpy_helper.from_array(np.float32(0.02), "scale"),
        numpy_helper.from_array(np.uint8(128), "zero"),
    ]
    model.graph.initializer.extend(scale)
    for node in model.graph.node:
        if node.op_type == "Conv":
            node.input[0] = "around"
    names = ("input", "scale", "zero"), ("rough", "scale", "zero")
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", names[1], ["around"]))
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", names[0], ["rough"]))
    onnx.save(model, tmp_path / "int8.onnx")
    files = write_tracker_files(tmp_path / "int8.onnx", tmp_path / "out")
    assert [path.name for path in files if "deepstream" in path.name] == []
    made = Embedder(tmp_path / "out" / "normalising.onnx")
    assert np.allclose(
        made(FRAME, BOXES), Embedder(tmp_path / "int8.onnx")(FRAME, BOXES), atol=1e-6
    )


def test_names_and_sources_are_no_keys(tmp_path: Path) -> None:
    model = save_model(tmp_path / 'a"b: c.onnx')
    write_tracker_files(model, tmp_path / "out", 0.5, "here\nwith_reid: False")
    reid = yaml.safe_load((tmp_path / "out" / "boxmot-reid.yaml").read_text())
    assert reid["artifact"]["path"] == '../a"b: c.onnx'
    ultralytics = (tmp_path / "out" / "ultralytics-botsort.yaml").read_text()
    assert "# Cosine similarity 0.5000: here with_reid: False\n" in ultralytics
    assert yaml.safe_load(ultralytics)["with_reid"] is True


def test_what_is_refused(tmp_path: Path) -> None:
    model = save_colour_model(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"threshold 1\.5: a cosine similarity is between"):
        write_tracker_files(model, tmp_path, 1.5)
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        write_tracker_files(tmp_path / "none.onnx", tmp_path)
    made = save_model(tmp_path / "normalising.onnx")
    with pytest.raises(ModelError, match=r"normalising\.onnx: would be replaced by a file of this"):
        write_tracker_files(made, tmp_path)
    assert made.is_file()


def test_files_beside_an_export(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_model(tmp_path / "float.onnx")
    save_model(tmp_path / "int8.onnx", threshold=0.4)
    write_beside_export(tmp_path, ["float.onnx", "int8.onnx"])
    folders = [tmp_path / "trackers" / name for name in ("float", "int8")]
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
        reid = yaml.safe_load((folder / "boxmot-reid.yaml").read_text())
        assert (folder / reid["artifact"]["path"]).resolve() == tmp_path / f"{folder.name}.onnx"
    (tmp_path / "trackers" / "int8" / "mine.yaml").touch()
    (tmp_path / "float.onnx").write_bytes(b"\x08damaged")
    with caplog.at_level("WARNING", logger="reid_edge"):
        write_beside_export(tmp_path, ["float.onnx"], rejected=["int8.onnx"])
    assert list(folders[0].iterdir()) == []
    assert [path.name for path in folders[1].iterdir()] == ["mine.yaml"]
    (line,) = caplog.messages
    assert line.startswith(f"no files for trackers: {tmp_path / 'float.onnx'}: not a readable ONNX")

"""``reid-edge export``: files of any model, checked on images without labels."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from pipeline.export_images import halve
from quantize.exporters import EXPORTERS
from quantize.projection import apply_projection, fit_projection
from reid_edge.cli.main import main
from reid_edge.core.errors import DataError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import hash_file
from reid_edge.inference.embedder import embed_files, load_embedder, unit_vectors
from reid_edge.models import build_model

pytestmark = pytest.mark.medium

OF_CHECKPOINT = ("--architecture", "resnet18_x0_5", "--input-size", "64x32")


class Foreign(nn.Module):
    """A network that this program knows nothing of.

    Args:
        batch: that a Reshape in it holds, and not in the first place.
    """

    def __init__(self, batch: int | None = None) -> None:
        super().__init__()
        self.batch = batch
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 5, 4, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU()
        )
        self.fc = nn.Linear(24 * 4 * 2, 20)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(self.body(x), (4, 2))
        if self.batch is not None:
            folded = pooled.transpose(0, 1).reshape(24, self.batch, -1).mean(2).T
            return self.fc(folded.repeat_interleave(8, 1))  # type: ignore[no-any-return]
        return self.fc(pooled.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def foreign_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "theirs.onnx"
    torch.onnx.export(
        Foreign().eval(), (torch.zeros(1, 3, 64, 32),), str(path), dynamo=False, opset_version=12,
        input_names=["image"], output_names=["feature"],
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def foreign_torchscript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("foreign") / "theirs.pt"
    traced = torch.jit.trace(Foreign().eval(), torch.zeros(1, 3, 64, 32))
    torch.jit.save(traced, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory, randomise_normalisation: Callable[[nn.Module], None]
) -> Path:
    """Weights as torchreid saves them."""
    torch.manual_seed(0)
    model = build_model("resnet18_x0_5", num_classes=4)
    randomise_normalisation(model)
    path = tmp_path_factory.mktemp("checkpoint") / "model.pth"
    torch.save(model.state_dict(), path)
    return path


def run(model: Path, images: Path, output: Path, *options: str) -> int:
    return main(["export", str(model), "--images", str(images), "--output", str(output), *options])


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((output / "parity.json").read_text())["files"]
    return {row["name"]: row for row in rows}


def test_a_foreign_onnx_file_gets_the_formats_that_onnx_can_become(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "files"
    formats = "onnx_int8,openvino" if _installed("openvino") else "onnx_int8"
    assert run(foreign_onnx, tiny_market, output, "--format", formats) == 0
    rows = rows_of(output)
    assert list(rows)[:2] == ["float.onnx", "int8.onnx"]
    assert rows["float.onnx"]["parity"]["lowest_cosine"] > 0.99999
    assert all(row["problems"] == [] for row in rows.values())
    assert all(row["latency_ms"] > 0 for row in rows.values())
    about = json.loads((output / "parity.json").read_text())["model"]
    assert about["sha256"] == hash_file(foreign_onnx)
    assert (about["input_size"], about["dimensions"]) == ([64, 32], 20)
    halves = halve(tiny_market)
    assert about["judging_images"] == len(halves.judging) == rows["int8.onnx"]["parity"]["images"]
    assert about["calibration_images"] == len(halves.calibration)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == [
        "format", "size", "lowest", "mean", "nearest", "spread", "ms", "fits",
    ]  # fmt: skip
    assert max(map(len, table[:-1])) <= 80
    assert table[1].startswith("onnx ")
    assert table[2].startswith("onnx_int8 ")
    embedder = load_embedder(output / "int8.onnx")
    assert embedder.space.input_size == (64, 32)
    metadata = {e.key: e.value for e in onnx.load(output / "int8.onnx").metadata_props}
    assert metadata["parent_hash"] == hash_file(foreign_onnx)
    assert metadata["calibration_digest"] == about["calibration_digest"]
    # What is not made again stays, also for a third export, and is named.
    for _ in range(2):
        assert run(foreign_onnx, tiny_market, output, "--format", "onnx") == 0
        said = capsys.readouterr().out
        assert "of an earlier export, and not made again: int8.onnx" in said
        assert (output / "int8.onnx").is_file()


def test_files_for_fixed_batches_take_any_number_by_their_reader(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path
) -> None:
    output = tmp_path / "files"
    options = ("--format", "onnx_int8,boxmot", "--batch", "4,1")
    assert run(foreign_onnx, tiny_market, output, *options) == 2
    rows = rows_of(output)
    files = ["float_b1.onnx", "float_b4.onnx", "int8_b1.onnx", "int8_b4.onnx"]
    assert [name for name in rows if name.endswith(".onnx")] == files
    paths = sorted(tiny_market.rglob("*.jpg"))[:7]
    dynamic = embed_files(load_embedder(foreign_onnx), paths)
    for name, batch in zip(files, (1, 4, 1, 4), strict=True):
        assert rows[name]["problems"] == []
        assert rows[name]["batch"] == batch
        graph = onnx.load(output / name).graph
        for value in (*graph.input, *graph.output):
            assert value.type.tensor_type.shape.dim[0].dim_value == batch
        found = embed_files(load_embedder(output / name), paths)
        assert (unit_vectors(found) * unit_vectors(dynamic)).sum(1).min() > 0.98
    # What does not know of batches is one file.
    (checkpoint,) = rows.keys() - set(files)
    assert rows[checkpoint]["batch"] is None
    one, four = (onnx.load(output / name).graph for name in files[2:])
    assert one.initializer == four.initializer


def test_files_of_newer_operator_sets_become_int8(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--format", "onnx_int8", "--opset", "18")
    assert run(foreign_onnx, tiny_market, tmp_path / "files", *options) == 0
    assert rows_of(tmp_path / "files")["int8.onnx"]["parity"]["mean_cosine"] > 0.99
    assert "Traceback" not in capfd.readouterr().err


def test_a_network_that_holds_its_batch_is_calibrated_in_that_batch(
    tiny_market: Path, tmp_path: Path
) -> None:
    model, output = tmp_path / "two.onnx", tmp_path / "files"
    torch.onnx.export(
        Foreign(batch=2).eval(), (torch.zeros(2, 3, 64, 32),), str(model), dynamo=False
    )
    assert run(model, tiny_market, output, "--format", "onnx_int8", "--batch", "1,2") == 2
    rows = rows_of(output)
    (problem,) = rows["float_b1.onnx"]["problems"]
    assert "the network holds a batch of 2, so that it cannot take 1" in problem
    # It is not made of the file for a batch of 2.
    (problem,) = rows["int8_b1.onnx"]["problems"]
    assert problem == "there is no file of the exporter onnx to make it from"
    assert rows["int8_b2.onnx"]["problems"] == []
    assert rows["int8_b2.onnx"]["parity"]["mean_cosine"] > 0.99


@pytest.mark.parametrize("name", ["float.onnx", "rejected-int8.onnx"])
def test_the_model_itself_is_never_replaced(
    name: str, foreign_onnx: Path, tiny_market: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = tmp_path / name
    shutil.copy(foreign_onnx, model)
    assert run(model, tiny_market, tmp_path, "--format", "onnx_int8") == 2
    message = f"{model}: would be replaced by a file of the export; name another folder with "
    assert f"error: {message}--output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert hash_file(model) == hash_file(foreign_onnx)


@pytest.mark.parametrize("order", ["uint8-rgb", "uint8-bgr"])
def test_files_that_take_pixels(
    foreign_onnx: Path, checkpoint: Path, tiny_market: Path, tmp_path: Path, order: str
) -> None:
    output = tmp_path / "files"
    options = ("--format", "onnx_int8", "--input", order)
    assert run(foreign_onnx, tiny_market, output, *options) == 0
    rows = rows_of(output)
    assert rows["float.onnx"]["parity"]["lowest_cosine"] > 0.99999
    embedder = load_embedder(output / "int8.onnx")
    assert embedder.space.input_form == order
    assert embedder.space.colour_order == order[-3:].upper()
    (given,) = onnx.load(output / "int8.onnx").graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    # What a camera gives goes in as it is.
    path = sorted(tiny_market.rglob("*.jpg"))[0]
    pixels = np.asarray(Image.open(path).convert("RGB").resize((32, 64), Image.Resampling.BILINEAR))
    planes = pixels.transpose(2, 0, 1)[None]
    camera = planes if order == "uint8-rgb" else planes[:, ::-1]
    session = onnxruntime.InferenceSession(output / "float.onnx")
    (found,) = session.run(None, {"input": np.ascontiguousarray(camera)})
    (expected,) = unit_vectors(embed_files(load_embedder(foreign_onnx), [path]))
    assert found[0] @ expected > 0.99999
    if order == "uint8-bgr":
        options = ("--format", "torchscript,torchreid", "--input", order, *OF_CHECKPOINT)
        assert run(checkpoint, tiny_market, output, *options) == 2
        rows = rows_of(output)
        assert rows["float.pt"]["parity"]["lowest_cosine"] > 0.99999
        (problem,) = rows["model.pth.tar"]["problems"]
        assert problem == "takes normalised images alone; leave --input out"


@pytest.mark.parametrize("whiten", [False, True])
def test_a_smaller_embedding_is_fitted_on_one_half_and_judged_on_the_other(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, whiten: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "files"
    options = ["--format", "onnx", "--dims", "12", "--data", str(tiny_market)]
    assert run(foreign_onnx, tiny_market, output, *options, *["--whiten"] * whiten) == 0
    assert rows_of(output)["float.onnx"]["parity"]["lowest_cosine"] > 0.9999
    costs = json.loads((output / "parity.json").read_text())["dimensions"]
    assert [cost["dimensions"] for cost in costs] == [20, 12]
    assert (costs[0]["same_nearest"], costs[0]["nearest_overlap"]) == (1, 1)
    assert 0.3 < costs[1]["nearest_overlap"] < 1
    assert all(0 < cost["mean_average_precision"] < 1 for cost in costs)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["dimensions", "nearest", "top", "10", "mAP"]
    assert table[1].split()[:3] == ["20", "100.0%", "100.0%"]
    halves, embedder = halve(tiny_market), load_embedder(foreign_onnx)
    fitted, judged = (
        torch.from_numpy(embed_files(embedder, half))
        for half in (halves.calibration, halves.judging)
    )
    expected = apply_projection(judged, fit_projection(fitted, 12, whiten)).numpy()
    found = unit_vectors(embed_files(load_embedder(output / "float.onnx"), halves.judging))
    assert found.shape == (len(halves.judging), 12)
    assert (found * expected).sum(1).min() > 0.9999


def test_what_is_wrong_with_dimensions(
    foreign_onnx: Path, checkpoint: Path, tiny_market: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    half = len(halve(tiny_market).calibration)
    for model, dims, message in (
        (foreign_onnx, "20", "--dims 20: the embedding has 20 dimensions; expected 1 to 19"),
        (foreign_onnx, "0", "--dims 0: the embedding has 20"),
        (checkpoint, "128", f"and half of --images are {half}; give 256 images or more"),
    ):
        options = ("--format", "onnx,torchreid", "--dims", dims)
        options += OF_CHECKPOINT if model == checkpoint else ()
        assert run(model, tiny_market, tmp_path / "x", *options) == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
        assert message in line
    assert run(checkpoint, tiny_market, tmp_path / "x", *options[:3], "16", *options[4:]) == 2
    rows = rows_of(tmp_path / "x")
    assert rows["float.onnx"]["problems"] == []
    assert rows["model.pth.tar"]["problems"] == [
        "takes published architectures alone; leave --dims out"
    ]


def test_a_torchscript_file_becomes_onnx(
    foreign_torchscript: Path, tiny_market: Path, tmp_path: Path
) -> None:
    output = tmp_path / "files"
    options = ("--format", "onnx", "--input-size", "64x32")
    assert run(foreign_torchscript, tiny_market, output, *options) == 0
    assert rows_of(output)["float.onnx"]["parity"]["lowest_cosine"] > 0.99999


def test_a_torchscript_file_of_another_input_is_one_line(
    tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class ChannelsLast(Foreign):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 3, 1, 2))

    path = tmp_path / "last.pt"
    torch.jit.save(torch.jit.trace(ChannelsLast().eval(), torch.zeros(1, 64, 32, 3)), path)
    options = ("--format", "onnx", "--input-size", "64x32")
    assert run(path, tiny_market, tmp_path / "x", *options) == 2
    message = "last.pt: the model fails on images of 64x32; it may be made for another input size"
    assert message in " ".join(capsys.readouterr().err.split())


def test_files_for_compilers_have_one_batch_and_named_nodes(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path
) -> None:
    output = tmp_path / "files"
    run(foreign_onnx, tiny_market, output, "--format", "tensorrt_int8,hailo", "--dims", "8")
    rows = rows_of(output)
    model = onnx.load(output / rows["tensorrt_int8_b1.onnx"]["path"])
    (images,) = model.graph.input
    assert [side.dim_value for side in images.type.tensor_type.shape.dim] == [1, 3, 64, 32]
    with zipfile.ZipFile(output / rows["hailo_b1.zip"]["path"]) as archive:
        script = archive.read("compile.py").decode()
        network = onnx.load_model_from_string(archive.read("model.onnx"))
    names = {node.name for node in network.graph.node}
    (last,) = re.findall(r'end_node_names=\["(.*)"\]', script)
    assert last
    assert last in names


def test_a_checkpoint_gets_formats_that_are_made_of_pytorch_models(
    checkpoint: Path, tiny_market: Path, tmp_path: Path
) -> None:
    output = tmp_path / "files"
    options = ("--format", "torchscript,onnx", *OF_CHECKPOINT)
    assert run(checkpoint, tiny_market, output, *options) == 0
    rows = rows_of(output)
    assert {"float.pt", "float.onnx"} == set(rows)
    for name in ("float.pt", "float.onnx"):
        assert rows[name]["problems"] == []
        assert rows[name]["parity"]["lowest_cosine"] > 0.9999


def test_formats_that_need_a_checkpoint_are_named_and_the_others_go_on(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "files"
    assert run(foreign_onnx, tiny_market, output, "--format", "torchscript,onnx") == 2
    rows = rows_of(output)
    assert rows["float.pt"]["problems"] == ["needs a checkpoint; it cannot be made of an ONNX file"]
    assert rows["float.onnx"]["problems"] == []
    printed = capsys.readouterr()
    assert "float.pt: needs a checkpoint; it cannot be made of an ONNX file" in printed.out
    assert "error: float.pt cannot be used: needs a checkpoint" in printed.err
    assert not (output / "float.pt").exists()
    # Nobody has asked for TorchScript here.
    assert run(foreign_onnx, tiny_market, output) == 0
    rows = rows_of(output)
    assert list(rows) == ["float.onnx", "int8.onnx", "torchscript"]
    assert rows["torchscript"]["note"].startswith("needs a checkpoint; it cannot")
    assert rows["torchscript"]["problems"] == []


def test_a_file_outside_its_limits_is_set_aside(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "files"
    options = ("--format", "onnx_int8", "--int8-cosine", "1")
    assert run(foreign_onnx, tiny_market, output, *options) == 2
    assert sorted(path.name for path in output.iterdir()) == [
        "float.onnx", "parity.json", "rejected-int8.onnx", "trackers",
    ]  # fmt: skip
    assert [path.name for path in (output / "trackers").iterdir()] == ["float"]
    (problem,) = rows_of(output)["int8.onnx"]["problems"]
    assert problem.startswith("mean cosine to the model ")
    assert f"error: int8.onnx cannot be used: {problem}" in capsys.readouterr().err
    # The next export takes away what this one has left.
    assert run(foreign_onnx, tiny_market, output, "--format", "onnx_int8") == 0
    assert not (output / "rejected-int8.onnx").exists()


def _crash(source: ExportSource, path: Path) -> None:
    del source, path
    os.abort()


def _copy(source: ExportSource, path: Path) -> None:
    assert len(source.draw_calibration().batches[0]) > 1
    shutil.copy(source.file("onnx"), path)


def _write_half(source: ExportSource, path: Path) -> None:
    del source
    path.write_bytes(b"half of it")
    path.with_name(f".{path.name}.1.tmp").write_bytes(b"the rest")
    raise KeyError("layer 7")


def _with_folder(source: ExportSource, path: Path) -> None:
    model = onnx.load(source.file("onnx"))
    (weight,) = [each for each in model.graph.initializer if len(each.dims) == 2]
    other = np.random.default_rng(0).standard_normal(weight.dims).astype(np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(other, weight.name))
    onnx.save_model(model, path)
    path.with_name(f"{path.stem}_more").mkdir()
    (path.with_name(f"{path.stem}_more") / "weights").write_bytes(b"of it")


def test_nothing_that_looks_usable_is_left_of_a_file_that_is_not(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_onnx = {"made_of": ("onnx",), "needs_model": False}
    for one in (
        Exporter("half", "one that fails on its way", "a.onnx", _write_half, **of_onnx),  # type: ignore[arg-type]
        Exporter(
            "folder", "a file and a folder", "b.onnx", _with_folder, int8=True,
            folder_suffix="_more", **of_onnx,  # type: ignore[arg-type]
        ),
    ):  # fmt: skip
        monkeypatch.setitem(EXPORTERS._entries, one.name, one)
    output = tmp_path / "files"
    for _ in range(2):  # the second time, what was rejected is replaced
        assert run(foreign_onnx, tiny_market, output, "--format", "half,folder") == 2
        assert rows_of(output)["a.onnx"]["problems"] == ["cannot be written: KeyError: 'layer 7'"]
        assert sorted(path.name for path in output.iterdir()) == [
            "float.onnx", "parity.json", "rejected-b.onnx", "rejected-b_more", "trackers",
        ]  # fmt: skip


def test_a_converter_that_crashes_stops_no_other(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = {"made_of": ("onnx",), "needs_model": False, "own_process": True}
    for one in (
        Exporter("crashing", "one that crashes", "a.onnx", _crash, **apart),  # type: ignore[arg-type]
        Exporter("copying", "one that works", "b.onnx", _copy, calibrated=True, **apart),  # type: ignore[arg-type]
        replace(EXPORTERS.load("onnx"), name="unseen", file="c.onnx", unchecked="runs on a phone"),
    ):
        monkeypatch.setitem(EXPORTERS._entries, one.name, one)
    output = tmp_path / "files"
    assert run(foreign_onnx, tiny_market, output, "--format", "crashing,copying,unseen") == 2
    rows = rows_of(output)
    (problem,) = rows["a.onnx"]["problems"]
    assert problem.startswith("its process crashed (SIGABRT)")
    assert rows["b.onnx"]["problems"] == []
    assert rows["b.onnx"]["parity"]["lowest_cosine"] > 0.99999
    assert rows["c.onnx"]["note"] == "not checked: runs on a phone"
    assert rows["c.onnx"]["parity"] is None


def _installed(package: str) -> bool:
    from reid_edge.core.packages import missing_packages

    return not missing_packages([package])


def write_images(folder: Path, count: int, *, alike: bool = False) -> Path:
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        colours = np.full(3, 90) if alike else generator.integers(0, 255, 3)
        pixels = np.broadcast_to(colours, (16, 8, 3)).astype(np.uint8)
        text = PngInfo()
        text.add_text("number", str(number))  # no file is a copy of another one
        Image.fromarray(pixels).save(folder / f"{number:03}.png", pnginfo=text)
    return folder


def test_halves_are_the_same_everywhere_and_share_no_content(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", 70)
    shutil.copytree(folder, tmp_path / "b" / "deep")
    first, second = halve(folder), halve(tmp_path / "b" / "deep")
    assert [path.name for path in first.judging] == [path.name for path in second.judging]
    assert (len(first.calibration), len(first.judging)) == (35, 35)
    assert not set(first.calibration) & set(first.judging)
    shutil.copy(folder / "000.png", folder / "copy.png")
    contents = [hash_file(path) for half in (halve(folder),) for path in half.judging]
    contents += [hash_file(path) for path in halve(folder).calibration]
    assert len(contents) == len(set(contents)) == 70


def test_what_is_wrong_with_images_and_folders(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = write_images(tmp_path / "few", 63)
    alike = write_images(tmp_path / "alike", 64, alike=True)
    (tmp_path / "file").touch()
    for images, output, message in (
        (
            few,
            tmp_path / "x",
            "has 63 different images (.jpg, .jpeg, .png ...); an export needs 64",
        ),
        (tmp_path / "none", tmp_path / "x", "none: no such folder"),
        (alike, tmp_path / "x", "its images are all alike"),
        (tiny_market, tmp_path / "file" / "x", "x: cannot be made (Not a directory)"),
    ):
        assert run(foreign_onnx, images, output, "--format", "onnx") == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
        assert message in line
    shutil.copy(few / "000.png", few / "again.png")
    with pytest.raises(DataError, match="has 63 different images of 64 files"):
        halve(few)


def test_what_is_wrong_with_models_and_formats(
    foreign_onnx: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    network = onnx.load(foreign_onnx)
    network.graph.output.append(network.graph.output[0])
    network.graph.output[1].name = network.graph.node[0].output[0]
    onnx.save(network, tmp_path / "two.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    for model, format, message in (
        (tmp_path / "absent.onnx", "onnx", "absent.onnx: no such file"),
        (tmp_path / "text.onnx", "onnx", "text.onnx: not a readable ONNX file"),
        (tmp_path / "two.onnx", "onnx", "gives 2 outputs (feature, "),
        (foreign_onnx, "onxx", "unknown file format 'onxx': did you mean 'onnx'"),
        (foreign_onnx, ",", "--format names no format"),
    ):
        assert run(model, tiny_market, tmp_path / "x", "--format", format) == 2
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
        assert message in line
    monkeypatch.setattr(
        "reid_edge.core.packages.find_spec", lambda name: None if name == "openvino" else True
    )
    assert run(foreign_onnx, tiny_market, tmp_path / "x", "--format", "openvino") == 2
    assert "openvino needs the package openvino: pip install" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_all_formats_name_those_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipeline.export_work import choose_exporters

    monkeypatch.setattr(
        "reid_edge.core.packages.find_spec", lambda name: None if name == "openvino" else True
    )
    found, skipped = choose_exporters("all")
    names = [exporter.name for exporter in found]
    assert {"onnx", "onnx_int8", "executorch"} <= set(names)
    assert [row.name for row in skipped][:2] == ["openvino", "openvino_bf16"]
    assert "needs the package openvino: pip install" in skipped[0].note

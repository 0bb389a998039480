"""Files that agree with the model, and what happens to one that does not."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from pipeline.command import main
from pipeline.exporters import check_packages
from pipeline.file_parity import reject
from pipeline.judging import accuracy_loss
from pipeline.report.show import write_page_again
from pipeline.run_dir import RunDir
from quantize.c_engine.toolchain import find_compiler
from quantize.exporters import EXPORTERS
from quantize.exporters.onnx_float import read_onnx_metadata, save_onnx
from reid_edge.cli.main import main as cli
from reid_edge.core.errors import PipelineError
from reid_edge.core.exporter import ExportSource
from reid_edge.core.io import hash_file
from reid_edge.data.schema import ReidData
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.inference.embedder import embed_files, load_embedder
from reid_edge.inference.thresholds import read_threshold, store_threshold
from reid_edge.metrics.results import Evaluation, VerificationResult
from reid_edge.models import build_model
from tests.pipeline.records import make_evaluation

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

CONFIG = """
name: files
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: small_net, embedding_dim: 32}}
train: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
quantize: {{calibration_images: 8, observer: minmax}}
export:
  calibration_images: 8
  parity: {{int8_cosine: 0.9, int8_lowest_cosine: 0.7, loss: 0.2}}
latency: {{rounds: 2}}
"""


@pytest.fixture(scope="module")
def run(short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run whose model is trained, quantized and exported."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "c.yaml").write_text(CONFIG.format(root=tiny_market))
    arguments = ["--config", str(folder / "c.yaml"), "--run", str(folder / "run")]
    assert main([*arguments, "--stages", "train,quantize,export"]) == 0
    return folder / "run"


def test_every_file_is_there_and_agrees(run: Path) -> None:
    rows = json.loads((run / "export" / "parity.json").read_text())["files"]
    assert [row["name"] for row in rows] == [
        "float.pt", "float.onnx", "int8.onnx", "quantize/int8.pt",
    ]  # fmt: skip
    for row in rows:
        assert row["problems"] == []
        assert row["parity"]["lowest_cosine"] >= (0.7 if row["int8"] else 0.999)
        assert row["parity"]["batch_difference"] <= 1e-4
    record = json.loads((run / "export" / "stage.json").read_text())
    assert record["inputs"]["quantize/int8.pt"] == hash_file(run / "quantize" / "int8.pt")
    assert set(record["outputs"]) == {"float.pt", "float.onnx", "int8.onnx"}


def test_files_give_their_users_the_models_embeddings(run: Path, tiny_data: ReidData) -> None:
    paths = [image.path for image in tiny_data.query]
    expected = torch.from_numpy(embed_files(load_embedder(run / "train" / "checkpoint.pt"), paths))
    for name in ("float.pt", "float.onnx"):
        embedder = load_embedder(run / "export" / name)
        assert embedder.space.input_size == (64, 32)
        found = torch.from_numpy(embed_files(embedder, paths))
        cosines = torch.cosine_similarity(found, expected)
        assert cosines.min() > 0.9999


def test_metadata_and_thresholds(run: Path) -> None:
    rows = json.loads((run / "export" / "parity.json").read_text())["files"]
    thresholds = {row["name"]: row["threshold"] for row in rows}
    metadata = read_onnx_metadata(run / "export" / "float.onnx")
    assert metadata["parent_hash"] == hash_file(run / "train" / "checkpoint.pt")
    assert metadata["architecture"] == "small_net"
    assert json.loads(metadata["threshold"]) == pytest.approx(thresholds["float.onnx"], abs=1e-4)
    assert load_torchscript(run / "export" / "float.pt")[1].threshold == json.loads(
        metadata["threshold"]
    )
    calibration = json.loads((run / "export" / "calibration.json").read_text())
    int8 = read_onnx_metadata(run / "export" / "int8.onnx")
    assert int8["calibration_digest"] == calibration["digest"]
    assert "threshold" not in int8  # its own is beside it
    for name in ("export/float.onnx", "export/int8.onnx", "quantize/int8.pt"):
        stored = read_threshold(load_embedder(run / name))
        assert stored.threshold == thresholds[name.removeprefix("export/")]
        assert stored.target == "eer"


def test_files_for_trackers_have_the_threshold_of_their_model(run: Path) -> None:
    for name in ("float", "int8"):
        folder = run / "export" / "trackers" / name
        assert (folder / "deepstream-tracker.yml").exists() == (name == "float")
        threshold = read_threshold(load_embedder(run / "export" / f"{name}.onnx")).threshold
        text = (folder / "ultralytics-botsort.yaml").read_text()
        written = yaml.safe_load(text)["appearance_thresh"]
        assert written == pytest.approx((1 + threshold) / 2, abs=1e-4)
        assert "equal error rate on " in text
        reid = yaml.safe_load((folder / "boxmot-reid.yaml").read_text())
        assert (folder / reid["artifact"]["path"]).samefile(run / "export" / f"{name}.onnx")
        made = load_embedder(folder / "normalising.onnx")
        assert (made.space.input_size, made.space.mean) == ((64, 32), (0, 0, 0))


def test_the_onnx_file_needs_nothing_of_this_project(run: Path) -> None:
    session = onnxruntime.InferenceSession(run / "export" / "float.onnx")
    (found,) = session.run(["reid_features"], {"input": np.zeros((3, 3, 64, 32), np.float32)})
    assert found.shape == (3, 32)
    assert np.allclose((found**2).sum(1), 1, atol=1e-5)


def test_the_report_shows_every_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(run), "--report"]) == 0
    text = capsys.readouterr().out
    assert "Files beside their model" in text
    page = (run / "report.html").read_text()
    for name in ("float.pt", "float.onnx", "int8.onnx", "quantize/int8.pt"):
        assert name in text
        assert f"<tr><td>{name}</td>" in page


def test_the_report_shows_what_a_device_measured(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share_models(run, tmp_path)
    timing = {
        "batch": 1, "threads": 2, "median_ms": 7.25, "lower_quartile_ms": 7, "upper_quartile_ms": 8
    }  # fmt: skip
    file = {"name": "int8.onnx", "kind": "onnx", "sha256": "", "timings": [timing]}
    result = {"machine": {"name": "Jetson <Nano>", "cores": 4}, "rounds": 9, "files": [file]}
    (tmp_path / "jetson.json").write_text(json.dumps(result))
    command = ["benchmark", "--read", str(tmp_path / "jetson.json"), "--run", str(tmp_path)]
    assert cli(command) == 0
    assert "Jetson <Nano>" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "<h2>On devices</h2>" in page
    assert '<td class="left">Jetson &lt;Nano&gt;</td><td class="left">int8.onnx</td>' in page
    assert "<th>b1 t2</th>" in page
    assert "<td>7.2</td>" in page
    # What is no result any more is left out of the page, and named.
    (tmp_path / "devices" / "jetson.json").write_text("{")
    assert cli(["benchmark", "--read", str(tmp_path / "jetson.json")]) == 0
    write_page_again(RunDir(tmp_path))
    assert "On devices" not in (tmp_path / "report.html").read_text()
    assert "not a result of device_timing.py" in capsys.readouterr().err


def test_all_is_reused_until_the_int8_file_is_made_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(run), "--plan"]) == 0
    assert capsys.readouterr().out.count("reuse") == 3
    assert main(["--run", str(run), "--plan", "quantize.calibration_images=9"]) == 0
    assert "its input changed: quantize/int8.pt" in " ".join(capsys.readouterr().out.split())


def share_models(run: Path, other: Path) -> None:
    """Make another run of the same models, that has exported nothing yet."""
    for stage in ("train", "quantize"):
        (other / stage).symlink_to(run / stage)
    (other / "config.yaml").write_text((run / "config.yaml").read_text())


def test_a_threshold_for_a_rate_stays_with_a_file_that_is_checked_again(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "quantize").mkdir()
    for path in (run / "quantize").iterdir():
        (tmp_path / "quantize" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "train").symlink_to(run / "train")
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    embedder = load_embedder(tmp_path / "quantize" / "int8.pt")
    chosen = dataclasses.replace(read_threshold(embedder), threshold=0.875, target=0.001)
    store_threshold(embedder, chosen)
    again = ["--run", str(tmp_path), "--stages", "export", "export.files=[torchscript_int8]"]
    assert main(again) == 0
    assert read_threshold(embedder) == chosen


def test_an_int8_file_of_another_model_is_not_checked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").symlink_to(run / "train")
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    # Trained so fast that what its int8 file gives is far from the model before.
    short = ("epochs=1", "learning_rate=0.1", "identities_per_batch=4", "images_per_identity=3")
    command = ["--run", str(tmp_path), *(f"finetune.{setting}" for setting in short)]
    files = "export.files=[torchscript,torchscript_int8]"
    assert main([*command, "--stages", "finetune,quantize"]) == 0
    capsys.readouterr()
    export = [*command, files, "--stages", "train,export"]
    assert main(export) == 0
    expected = "int8.pt was made from another model than these files; not checked"
    assert expected in " ".join(capsys.readouterr().err.split())
    record = json.loads((tmp_path / "export" / "stage.json").read_text())
    assert record["inputs"]["parent"] == hash_file(run / "train" / "checkpoint.pt")
    assert [row["name"] for row in record["result"]["files"]] == ["float.pt"]
    assert "quantize/int8.pt" not in record["inputs"]
    assert main([*export, "--plan"]) == 0
    assert capsys.readouterr().out.count("reuse") == 2
    assert main([*command, files, "--stages", "quantize,export", "--plan"]) == 0
    assert "parent, quantize/int8.pt" in " ".join(capsys.readouterr().out.split())


def _of_another_model(source: ExportSource, path: Path) -> None:
    other = build_model(source.metadata.architecture, num_classes=8, embedding_dim=32)
    save_onnx(other.eval(), source.example, path, source.metadata.to_strings())


def _constant(source: ExportSource, path: Path) -> None:
    torch.nn.init.zeros_(source.model.get_submodule("embedding.0").weight)  # type: ignore[arg-type]
    save_onnx(source.model, source.example, path, source.metadata.to_strings())


def _nearly_constant(source: ExportSource, path: Path) -> None:
    source.model.get_submodule("embedding.0").weight.data.mul_(0.05)  # type: ignore[operator, union-attr]
    save_onnx(source.model, source.example, path, source.metadata.to_strings())


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (_of_another_model, "cosine to the model"),
        (_nearly_constant, "its embeddings collapse: they vary by"),
        (_constant, "gives the same embedding for every image"),
    ],
)
def test_a_file_that_differs_fails_the_stage_and_is_kept_for_inspection(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], write: Any, problem: str,
) -> None:  # fmt: skip
    wrong = replace(EXPORTERS.load("onnx"), write=write)
    monkeypatch.setitem(EXPORTERS._entries, "onnx", wrong)
    share_models(run, tmp_path)
    assert (
        main(["--run", str(tmp_path), "--stages", "export", "export.files=[onnx,onnx_int8]"]) == 2
    )
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert "error: export: float.onnx does not agree with the model: " in line
    assert problem in line
    assert str(tmp_path / "export" / "rejected-float.onnx") in line
    # The int8 file is not made of a float file that failed.
    assert "; 1 more failed; " in line
    left = {path.name for path in (tmp_path / "export").glob("*.onnx")}
    assert left == {"rejected-float.onnx"}


def test_what_other_programs_cannot_build_is_refused_at_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    share_models(run, tmp_path)
    assert main(["--run", str(tmp_path), "--stages", "export", "export.files=[boxmot]"]) == 2
    error = capsys.readouterr().err
    assert "export.files: torchreid and BoxMOT do not build small_net with 32 dimen" in error
    assert not (tmp_path / "export").exists()


def export_and_time(run: Path, folder: Path, files: str) -> dict[str, dict[str, Any]]:
    """Export the models of a run into another folder; return the checked files by name."""
    share_models(run, folder)
    brief = ["benchmark.rounds=2", "benchmark.batches=[1]", "benchmark.threads=[1]"]
    arguments = ["--run", str(folder), "--stages", "export,benchmark", f"export.files=[{files}]"]
    assert main([*arguments, *brief]) == 0
    rows = json.loads((folder / "export" / "parity.json").read_text())["files"]
    return {row["name"]: row for row in rows}


def test_openvino_files_are_checked_and_timed_like_the_others(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    rows = export_and_time(run, tmp_path, "onnx,onnx_int8,openvino,openvino_int8")
    assert list(rows) == ["float.onnx", "int8.onnx", "float.xml", "int8.xml"]
    assert rows["float.xml"]["parity"]["lowest_cosine"] >= 0.9999
    for name in ("float", "int8"):
        embedder = load_embedder(tmp_path / "export" / f"{name}.xml")
        assert embedder.space.input_size == (64, 32)
        assert read_threshold(embedder).threshold == rows[f"{name}.xml"]["threshold"]
        graph = (tmp_path / "export" / f"{name}.xml").read_text()
        assert hash_file(run / "train" / "checkpoint.pt") in graph
    record = json.loads((tmp_path / "export" / "stage.json").read_text())
    assert {"float.xml", "float.bin", "int8.xml", "int8.bin"} <= set(record["outputs"])
    timed = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    sizes = {row["name"]: row["bytes"] for row in timed["rows"]}
    assert timed["machine"]["openvino"]
    parts = (tmp_path / "export" / f"float{suffix}" for suffix in (".xml", ".bin"))
    assert sizes["export/float.xml"] == sum(part.stat().st_size for part in parts)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler")
def test_the_c_engine_is_checked_and_timed_like_the_others(run: Path, tmp_path: Path) -> None:
    rows = export_and_time(run, tmp_path, "onnx,onnx_int8,c")
    assert list(rows) == ["float.onnx", "int8.onnx", "model.so"]
    assert rows["model.so"]["problems"] == []
    embedder = load_embedder(tmp_path / "export" / "model.so")
    assert embedder.space.input_size == (64, 32)
    assert read_threshold(embedder).threshold == rows["model.so"]["threshold"]
    record = json.loads((tmp_path / "export" / "stage.json").read_text())
    assert "model.so" in record["outputs"]
    timed = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    (row,) = [row for row in timed["rows"] if row["name"] == "export/model.so"]
    assert row["kind"] == "c"
    assert row["timings"][0]["median_ms"] > 0
    page = (tmp_path / "report.html").read_text().replace("<wbr>", "")
    assert "<td>export/model.so</td>" in page


def test_files_of_another_form(run: Path, tmp_path: Path) -> None:
    """Fixed batches that take pixels and give fewer dimensions, of an operator set."""
    share_models(run, tmp_path)
    settings = ("files=[onnx,onnx_int8]", "batch=[2,1]", "input=uint8-bgr", "dims=8", "opset=15")
    command = ["--run", str(tmp_path), "--stages", "export", *(f"export.{s}" for s in settings)]
    assert main(command) == 0
    found = json.loads((tmp_path / "export" / "parity.json").read_text())
    assert [(row["name"], row["batch"]) for row in found["files"]] == [
        ("float_b1.onnx", 1), ("float_b2.onnx", 2), ("int8_b1.onnx", 1), ("int8_b2.onnx", 2),
    ]  # fmt: skip
    assert [cost["dimensions"] for cost in found["dimensions"]] == [32, 8]
    assert found["dimensions"][1]["mean_average_precision"] > 0
    model = onnx.load(tmp_path / "export" / "float_b2.onnx")
    assert model.opset_import[0].version == 15
    session = onnxruntime.InferenceSession(tmp_path / "export" / "float_b2.onnx")
    (embeddings,) = session.run(None, {"input": np.zeros((2, 3, 64, 32), np.uint8)})
    assert embeddings.shape == (2, 8)
    space = load_embedder(tmp_path / "export" / "int8_b1.onnx").space
    assert (space.input_form, space.colour_order) == ("uint8-bgr", "BGR")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("input=uint8-rgb", "files=[boxmot]"), "export.input: boxmot takes normalised images al"),
        (
            ("dims=8",),
            "export.dims: torchscript_int8 is the file of the stage quantize, with the w",
        ),
        (("dims=8", "files=[boxmot]"), "export.dims: boxmot takes published architectures alone"),
        (
            ("dims=32", "files=[onnx]"),
            "export.dims 32: the embedding has 32 dimensions; expected 1",
        ),
        (("whiten=true",), "whiten goes with dims alone; give export.dims"),
        (("opset=9",), "export.opset: input should be greater than or equal to 13"),
    ],
)
def test_a_form_that_files_cannot_have(
    run: Path, tmp_path: Path, settings: tuple[str, ...], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    share_models(run, tmp_path)
    given = [f"export.{setting}" for setting in settings]
    assert main(["--run", str(tmp_path), "--stages", "export", *given]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_executorch_files_are_checked_and_timed_like_the_others(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("executorch.exir")
    rows = export_and_time(run, tmp_path, "executorch,executorch_int8")
    assert list(rows) == ["float.pte", "int8.pte"]
    assert rows["float.pte"]["parity"]["lowest_cosine"] >= 0.9999
    for name, row in rows.items():
        embedder = load_embedder(tmp_path / "export" / name)
        assert embedder.space.input_size == (64, 32)
        assert read_threshold(embedder).threshold == row["threshold"]
    timed = json.loads((tmp_path / "benchmark" / "benchmark.json").read_text())
    assert timed["machine"]["executorch"]
    assert {"export/float.pte", "export/int8.pte"} <= {row["name"] for row in timed["rows"]}


def test_both_parts_of_a_rejected_file_are_set_aside(tmp_path: Path) -> None:
    for name in ("float.xml", "float.bin"):
        (tmp_path / name).write_text(name)
    assert reject(tmp_path / "float.xml") == tmp_path / "rejected-float.xml"
    assert (tmp_path / "rejected-float.bin").read_text() == "float.bin"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_missing_package_is_named_before_any_stage_runs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "reid_edge.core.packages.find_spec", lambda name: None if name == "openvino" else True
    )
    share_models(run, tmp_path)
    files = "export.files=[onnx,openvino]"
    for arguments in (["--plan"], []):
        assert main(["--run", str(tmp_path), "--stages", "export", files, *arguments]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert error == (
            "error: export.files: openvino needs the package openvino: "
            "pip install -r requirements-openvino.txt"
        )
    assert not (tmp_path / "export").exists()


def test_executorch_files_need_torchao_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(package: str) -> bool | None:
        return True if package != "torchao" else None

    monkeypatch.setattr("reid_edge.core.packages.find_spec", found)
    check_packages(["onnx", "openvino"])
    message = "executorch_int8 needs the package torchao: pip install -r requirements-executorch.t"
    with pytest.raises(PipelineError, match=message):
        check_packages(["executorch_int8"])


def test_what_is_wrong_with_the_settings(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(run), "export.files=[onnx_int8]"]) == 2
    assert "onnx_int8 is made of onnx: put onnx in files as well" in capsys.readouterr().err
    assert main(["--run", str(run), "export.files=[onnx,openvino_int8]"]) == 2
    assert "openvino_int8 is made of onnx_int8: put onnx_int8 in" in capsys.readouterr().err
    assert main(["--run", str(run), "export.files=[tflite]"]) == 2
    error = capsys.readouterr().err
    assert (
        "export.files.0: unknown file format 'tflite': did you mean 'litert'? known are " in error
    )
    assert main(["--run", str(run), "export.files=[onxx]"]) == 2
    assert "unknown file format 'onxx': did you mean 'onnx'? known are" in capsys.readouterr().err


def test_loss_is_of_what_the_task_measures() -> None:
    def metrics(precision: float, error: float) -> Evaluation:
        verification = VerificationResult(
            equal_error_rate=error, equal_error_threshold=0.5, operating_points=(),
            genuine_pairs=1, impostor_pairs=1,
        )  # fmt: skip
        return make_evaluation(precision, verification)

    model, file = metrics(0.5, 0.1), metrics(0.4, 0.3)
    assert accuracy_loss(model, file, "person") == pytest.approx(0.1)
    assert accuracy_loss(model, file, "face") == pytest.approx(0.2)
    assert accuracy_loss(file, model, "person") == pytest.approx(-0.1)

"""What the benchmarks say of what they cannot use."""

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import recovery
from benchmarks.command import is_there
from benchmarks.nncf_int8 import import_nncf
from benchmarks.torch_pruning_cut import torch_pruning_cut
from pipeline.command import run_guarded
from reid_edge.core.errors import PruneError, QuantizeError
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint

TEACHER, DATA, OUTPUT = "{folder}/teacher.pt", "{data}", "{folder}/output"
RECOVERY = ["--teacher", TEACHER, "--data", DATA, "--output", OUTPUT, "--rows", "ours"]
CRITERIA = ["--model", TEACHER, "--data", DATA, "--output", OUTPUT]
QUANTIZATION = ["--checkpoint", TEACHER, "--data", DATA, "--output", OUTPUT]
ONNX = ["--model", TEACHER, "--data", DATA]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model."""
    folder = tmp_path_factory.mktemp("benchmarks")
    model = build_model("osnet_x0_25", num_classes=8)
    save_checkpoint(
        folder / "teacher.pt", model, describe(model, "osnet_x0_25", input_size=(64, 32))
    )
    return folder


@pytest.mark.parametrize(
    ("benchmark", "arguments", "words"),
    [
        ("recovery", [*RECOVERY, "--rows", "ours,best"], "no row 'best'; there are ours, no_recon"),
        ("recovery", [*RECOVERY, "--seeds", "0,x"], "--seeds: expected whole numbers such as 0,1"),
        ("recovery", [*RECOVERY, "--size", "128"], "--size: expected height,width such as 128,64"),
        (
            "recovery",
            [*RECOVERY, "--iterations", "0"],
            "--iterations: expected a whole number from 1 up",
        ),
        ("recovery", [*RECOVERY, "--tuning", "-1"], "--tuning: expected a whole number from 0 up"),
        ("recovery", [*RECOVERY, "--passes", "5"], "--passes 5 are fewer than 3 cuts with --tuni"),
        (
            "recovery",
            [*RECOVERY, "--teacher", "/no/x.pt"],
            "/no/x.pt: no such file; --teacher must",
        ),
        ("recovery", [*RECOVERY, "--data", "/no"], "/no: no such folder"),
        ("recovery", [*RECOVERY, "--set", "seed=x"], "seed: input should be a valid integer"),
        ("recovery", [*RECOVERY, "--target", "osnet"], "unknown architecture 'osnet'"),
        ("recovery", ["--output", OUTPUT], "--teacher and --data are needed to run rows"),
        ("recovery", ["--output", "/no", "--table"], "/no: no rows there yet"),
        ("criteria", [*CRITERIA, "--model", "/no/x.pt"], "/no/x.pt: no such file"),
        ("criteria", [*CRITERIA, "--data", "/no"], "/no: no such folder"),
        ("criteria", [*CRITERIA, "--criteria", "l3"], "no criterion 'l3'; there are l2, l1"),
        ("criteria", [*CRITERIA, "--targets", "osnet"], "no architecture 'osnet'; there are"),
        ("criteria", ["--output", "/no", "--table"], "/no: no rows there yet"),
        ("quantization", [*QUANTIZATION, "--checkpoint", "/no/x.pt"], "/no/x.pt: no such file"),
        ("quantization", [*QUANTIZATION, "--data", "/no"], "/no: no such folder"),
        ("onnx_int8", [*ONNX, "--model", "/no/x.pt"], "/no/x.pt: no such file"),
        ("onnx_int8", [*ONNX, "--data", "/no"], "/no: no such folder"),
        ("criteria", [*CRITERIA, "--images", "1"], "--images: expected a whole number from 2"),
        ("quantization", [*QUANTIZATION, "--seeds", "0"], "--seeds: expected a whole number from"),
        ("onnx_int8", [*ONNX, "--rounds", "1"], "--rounds: expected a whole number from 2 up"),
        ("latency", ["--rounds", "1"], "--rounds: expected a whole number from 2 up, found '1'"),
        ("ranking", ["--repeats", "0"], "--repeats: expected a whole number from 1 up, found '0'"),
        ("ranking", ["--threads", "x"], "--threads: expected a whole number from 1 up, found 'x'"),
        ("large_sets", ["--only", "x"], "--only: no part 'x'; there are reading, check, start"),
        ("large_sets", ["--ranked", "5"], "--ranked: expected QUERIES,GALLERY such as 3368,15913"),
        ("training", ["--only", "x"], "--only: no way 'x'; there are torchreid, plain, fast"),
        ("training", ["--steps", "2"], "--steps: expected a whole number from 4 up, found '2'"),
        ("adaptation", [*ONNX, "--output", OUTPUT, "--cases", "best"], "no case 'best'; there are"),
        ("adaptation", ["--output", OUTPUT], "--model and --data are needed to run cases"),
        ("adaptation", ["--output", "/no", "--table"], "/no: no cases there yet"),
        ("adaptation", [*ONNX, "--output", OUTPUT, "--model", "/no/x.pt"], "/no/x.pt: no such fil"),
        ("adaptation", [*ONNX, "--output", OUTPUT, "--images", "9"], "a whole number from 64 up"),
        ("surgery", ["--target", "osnet"], "unknown architecture 'osnet'"),
        ("surgery", ["--repeats", "0"], "--repeats: expected a whole number from 1 up, found '0'"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path,
    tiny_market: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    benchmark: str,
    arguments: list[str],
    words: str,
) -> None:
    given = [argument.format(folder=folder, data=tiny_market) for argument in arguments]
    monkeypatch.setattr("sys.argv", [benchmark, *given])
    threads = torch.get_num_threads()
    try:
        module = import_module(f"benchmarks.{benchmark}")
        code = run_guarded(partial(module.main, module.parse_options()))
    except SystemExit as stop:  # the arguments themselves are wrong
        code = stop.code
    finally:
        torch.set_num_threads(threads)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert code == 2
    assert words in line


def test_a_result_of_other_settings_is_noticed(
    folder: Path, tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [argument.format(folder=folder, data=tiny_market) for argument in RECOVERY]

    def job(*more: str) -> recovery.Job:
        monkeypatch.setattr("sys.argv", ["recovery", *given, *more])
        return recovery.make_job("ours", 0, recovery.parse_options())

    first = job()
    result = tmp_path / "result.json"
    assert not is_there(result, first.settings)
    result.write_text(json.dumps({"settings": first.settings}))
    assert is_there(result, job("--threads", "3", "--set", "data.workers=0").settings)
    with pytest.raises(ValueError, match=r"made with other settings \(prune.tuning.epochs: 2 -> 1"):
        is_there(result, job("--tuning", "1", "--set", "finetune.epochs=4").settings)
    result.write_text(json.dumps({"result": {}}))  # of a version that kept no settings
    assert is_there(result, job("--tuning", "1").settings)


def test_nncf_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(QuantizeError, match=r"nncf is not installed; pip install nncf==3.4.0"):
        import_nncf()


def test_torch_pruning_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(PruneError, match=r"not installed; pip install torch-pruning==1.6.1"):
        torch_pruning_cut(nn.Conv2d(3, 4, 1), {}, example=torch.zeros(1, 3, 8, 8))

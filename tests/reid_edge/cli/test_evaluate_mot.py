"""``reid-edge evaluate --mot`` and ``reid-edge prepare synthetic-mot``."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from reid_edge.cli.main import main
from tests.reid_edge.tracking.sequences import save_colour_model, swapped_places


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_colour_model(tmp_path / "colour.onnx")


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    return swapped_places(tmp_path / "sequences" / "HAND-01")


def test_tables(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    sequence: Path,
) -> None:
    pytest.importorskip("trackeval")
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = run(capsys, "evaluate", "--mot", sequence.parent, "--weights", model, model)
    assert (code, err) == (0, "")
    assert f"{sequence.parent}: 1 sequences, 12 frames, 16 detections, 2 identities\n" in out
    cells = [re.split(r" {2,}", line.strip()) for line in out.splitlines()]
    assert ["IoU alone", "-", "50.00", "57.74", "33.33", "100.00", "87.50", "2", "2"] in cells
    of_model = [str(model), "0.95", *["100.00"] * 5, "0", "2"]
    assert cells.count(of_model) == 2
    assert ["persons", "12", "2", "0", "0", "0", "0"] in cells
    assert ["IoU alone", "100.0", "0.0", "-", "-", "-", "-"] in cells


def test_json_and_files(
    capsys: pytest.CaptureFixture[str], model: Path, sequence: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackeval")
    folder = tmp_path / "out"
    code, out, _ = run(
        capsys, "evaluate", "--mot", sequence, "--weights", model, "--json", "--output", folder
    )
    assert code == 0
    record = json.loads(out)
    assert record == json.loads((folder / "tracking.json").read_text())
    assert record["models"][0]["scores"]["idf1"] == 1
    assert sorted(path.name for path in (folder / "tracks").iterdir()) == ["iou", "model-1"]
    # For trackers the model of this test would have to have ImageNet's mean and std.
    made = sorted(path.name for path in (folder / "trackers" / "colour").iterdir())
    assert made == ["deepstream-tracker.yml", "normalising.onnx", "ultralytics-botsort.yaml"]
    text = (folder / "trackers" / "colour" / "deepstream-tracker.yml").read_text()
    assert "# Cosine similarity 0.9500: best IDF1 on HAND-01" in text


def test_a_given_threshold(
    capsys: pytest.CaptureFixture[str], model: Path, sequence: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trackeval")
    code, out, _ = run(
        capsys, "evaluate", "--mot", sequence, "--weights", model, "--json", "--threshold", "0.4",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    (measured,) = json.loads(out)["models"]
    assert measured["threshold"] == 0.4
    assert measured["thresholds"] == [{"threshold": 0.4, "idf1": 1.0}]
    text = (tmp_path / "out" / "trackers" / "colour" / "deepstream-tracker.yml").read_text()
    assert "# Cosine similarity 0.4000: --threshold\n" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--re-rank"], "--re-rank is for --data; leave it out with --mot"),
        (["--as", "folders"], "--as is for --data; leave it out with --mot"),
        (["--store-threshold", "eer"], "--store-threshold is for --data"),
        (["--threshold", "1.5"], "--threshold 1.5: a cosine similarity is between -1 and 1"),
        (["--batch-size", "0"], "--batch-size 0: expected 1 or more"),
    ],
)
def test_options_that_are_refused(
    capsys: pytest.CaptureFixture[str],
    model: Path,
    sequence: Path,
    options: list[str],
    message: str,
) -> None:
    code, _, err = run(capsys, "evaluate", "--mot", sequence, "--weights", model, *options)
    assert code == 2
    assert err.startswith(f"error: {message}")


def test_two_models_need_sequences(
    capsys: pytest.CaptureFixture[str], model: Path, tiny_market: Path
) -> None:
    code, _, err = run(capsys, "evaluate", "--data", tiny_market, "--weights", model, model)
    assert (code, err) == (2, "error: --weights names 2 models; expected one\n")
    for option in ("--min-confidence", "--threshold"):
        code, _, err = run(
            capsys, "evaluate", "--data", tiny_market, "--weights", model, option, 0.5
        )
        assert (code, err) == (2, f"error: {option} is for --mot\n")


def test_without_trackeval(model: Path, sequence: Path) -> None:
    program = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trackeval", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from reid_edge.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "evaluate", "--mot", sequence, "--weights", model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --mot: needs the package trackeval: pip install -r requirements-tracking.txt\n"
    )


def test_prepare_draws_sequences(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    few = ["--cameras", 1, "--persons", 1, "--frames", 2, "--seed", 7]
    code, out, _ = run(capsys, "prepare", "synthetic-mot", "--to", folder, *few)
    assert (code, out) == (0, f"{folder}: 1 sequences of 2 frames, 1 persons\n")
    assert json.loads((folder / "synthetic.json").read_text())["settings"]["seed"] == 7
    assert len(list((folder / "SYN-01" / "img1").iterdir())) == 2
    for options, message in (
        (["synthetic-mot", "--max-ids", 0], "--max-ids is not for synthetic-mot"),
        (["synthetic-mot", "--from", tmp_path], "--from is not for synthetic-mot"),
        (["market1501", "--seed", 0], "--seed is for synthetic-mot"),
        (["synthetic-mot", "--frames", 0], "synthetic sequences: frames must be 2 to 99999, not 0"),
    ):
        code, _, err = run(capsys, "prepare", "--to", tmp_path / "x", *options)
        assert (code, err) == (2, f"error: {message}\n")

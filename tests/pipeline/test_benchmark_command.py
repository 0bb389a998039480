"""``reid-edge benchmark``: files timed here, packed for a device, and its result read."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from quantize.exporters.onnx_float import save_onnx
from reid_edge.cli.main import main
from reid_edge.core.exporter import PixelInput
from reid_edge.core.io import hash_file

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small network as ONNX for any batch and for batches of 3, and as TorchScript."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    example = torch.zeros(1, 3, 16, 8)
    save_onnx(model, example, folder / "any.onnx", {"architecture": "Ö"})
    save_onnx(model, example, folder / "three.onnx", {}, batch=3)
    torch.jit.save(torch.jit.trace(model, example), folder / "float.pt")
    return [folder / "any.onnx", folder / "three.onnx", folder / "float.pt"]


def test_files_are_timed_here(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "here.json"
    command = ["benchmark", *map(str, files[:2]), "--rounds", "2", "--threads", "1"]
    assert main([*command, "--batches", "1,4", "--json", str(result)]) == 0
    rows = json.loads(result.read_text())["files"]
    assert [row["name"] for row in rows] == ["any.onnx", "three.onnx"]
    assert [(t["batch"], t["threads"]) for t in rows[0]["timings"]] == [(1, 1), (4, 1)]
    assert all(t["median_ms"] > 0 for row in rows for t in row["timings"])
    assert rows[0]["sha256"] == hash_file(files[0])
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["machine", "file", "memory", "cosine", "b1", "t1", "b4", "t1"]
    assert table[1].startswith("this machine  any.onnx ")
    assert main(["benchmark", "--read", str(result), str(result)]) == 0
    assert capsys.readouterr().out.count("this machine: ") == 2


def test_a_pack_is_timed_without_this_program(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack"
    command = ["benchmark", *map(str, files), "--pack", str(pack), "--rounds", "2"]
    assert main([*command, "--threads", "1", "--batches", "1,4", "--input-size", "16x8"]) == 0
    about = json.loads((pack / "pack.json").read_text())
    assert [file["batch"] for file in about["files"]] == [None, 3, None]
    # A file that the device cannot run does not stop the others.
    (pack / "three.onnx").write_bytes(b"no model")
    done = subprocess.run(
        ["./run.sh"],
        cwd=pack, capture_output=True, text=True, check=False,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((pack / "result.json").read_text())
    rows = {row["name"]: row for row in found["files"]}
    for name in ("any.onnx", "float.pt"):
        assert rows[name]["lowest_cosine"] == pytest.approx(1, abs=1e-6)
        assert [(t["batch"], t["threads"]) for t in rows[name]["timings"]] == [(1, 1), (4, 1)]
    assert rows["three.onnx"]["problem"].startswith("failed: ")
    assert rows["three.onnx"]["timings"] == []
    assert found["machine"]["packages"]["numpy"]
    capsys.readouterr()
    assert main(["benchmark", "--read", str(pack / "result.json")]) == 0
    printed = capsys.readouterr().out
    assert "1.00000" in printed
    assert ": three.onnx: failed: " in printed


def test_files_of_other_inputs_are_timed_by_the_script(files: list[Path], tmp_path: Path) -> None:
    """Pixels in uint8, and images in half precision, which ONNX Runtime does not cast."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    pixels = PixelInput((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), reverse=False)
    noted = {"input_form": "uint8-rgb", "input_size": "[16, 8]"}
    save_onnx(model, torch.zeros(1, 3, 16, 8), tmp_path / "pixels.onnx", noted, pixels=pixels)
    with warnings.catch_warnings(action="ignore"):  # the bound of the length becomes 0
        half = convert_float_to_float16(onnx.load(files[0]), keep_io_types=False)
    onnx.save_model(half, tmp_path / "half.onnx")
    pack = tmp_path / "pack"
    both = [str(tmp_path / name) for name in ("pixels.onnx", "half.onnx")]
    command = ["benchmark", *both, "--pack", str(pack), "--rounds", "2", "--batches", "1"]
    assert main([*command, "--threads", "1,2", "--input-size", "16x8"]) == 0
    subprocess.run([sys.executable, "device_timing.py"], cwd=pack, check=True)
    rows = json.loads((pack / "result.json").read_text())["files"]
    assert [row.get("problem") for row in rows] == [None, None]
    assert all(row["lowest_cosine"] > 0.9999 for row in rows)
    assert [len(row["timings"]) for row in rows] == [2, 2]


def test_the_worst_of_all_numbers_of_threads_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantize import device_timing

    (tmp_path / "a.onnx").write_bytes(b"a")
    entry = {"name": "a.onnx", "kind": "onnx"}
    pack = {"files": [entry], "threads": [1, 2], "rounds": 2}
    (tmp_path / "pack.json").write_text(json.dumps(pack))
    found = {1: {"lowest_cosine": 1.0, "peak_bytes": 5}, 2: {"lowest_cosine": 0.5, "peak_bytes": 9}}
    monkeypatch.setattr(device_timing, "__file__", str(tmp_path / "device_timing.py"))
    monkeypatch.setattr(sys, "argv", ["device_timing.py"])
    monkeypatch.setattr(device_timing, "time_apart", lambda *given: dict(found[given[-1]]))
    assert device_timing.main() == 0
    (row,) = json.loads((tmp_path / "result.json").read_text())["files"]
    assert (row["lowest_cosine"], row["peak_bytes"]) == (0.5, 9)


def test_the_script_imports_nothing_of_this_program_and_is_old_python() -> None:
    import ast

    script = Path(__file__).parents[2] / "quantize" / "device_timing.py"
    tree = ast.parse(script.read_text(), feature_version=(3, 8))
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]  # type: ignore[union-attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not imported & {"reid_edge", "quantize", "pipeline", "prune", "pydantic", "rich"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give model files, or --read with results of devices"),
        (["a.onnx", "--read", "b.json"], "give model files, or --read with results of devices"),
        (["--read", "a.json", "--pack", "b"], "--read shows results"),
        (["a.onnx", "--pack", "b", "--json", "c"], "--pack measures nothing here"),
        (["a.onnx", "--rounds", "1"], "--rounds 1: 2 or more"),
        (["a.onnx", "--batches", "0"], "expected numbers from 1 up such as 1,16, found '0'"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_files_that_do_not_fit(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "result.json").write_text('{"rounds": 2}')
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    checkpoint = tmp_path / "model.pth"
    torch.save({"conv.weight": torch.ones(1)}, checkpoint)
    one = str(files[0])
    here = tmp_path / "here.json"
    here.write_text('{"machine": {}, "rounds": 2, "files": []}')
    for arguments, message in (
        (["--read", str(tmp_path / "absent.json")], r"absent.json: cannot be read (No such file"),
        (
            ["--read", str(tmp_path / "result.json")],
            "result.json: not a result of device_timing.py",
        ),
        ([str(tmp_path / "absent.onnx")], "absent.onnx: no such file"),
        (
            [one, "--json", str(tmp_path / "result.json" / "x.json")],
            "result.json: File exists; make room",
        ),
        ([one, one], "a file is named twice; name each once"),
        (["--read", str(here), "--run", str(tmp_path)], "holds no run; name its folder with --run"),
        ([one, one, "--pack", str(tmp_path / "p")], "two files have the same name; rename one"),
        ([one, "--pack", str(tmp_path / "full")], "full: is not empty; name a new folder"),
        ([str(checkpoint), "--pack", str(tmp_path / "p")], "model.pth: a file of the kind 'check"),
    ):
        assert main(["benchmark", *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert message in " ".join(said.split()), (arguments, said)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["note"]
    assert not (tmp_path / "p").exists()

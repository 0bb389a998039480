"""The notebook runs from its first cell to its last, on a small network and few images."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "images_to_file.ipynb"
pytestmark = pytest.mark.usefixtures("short_networks")
SMALL = {
    "threads": 1,
    "data.workers": 0,
    "data.synthetic.train_identities": 6,
    "data.synthetic.test_identities": 3,
    "data.synthetic.cameras": 2,
    "data.synthetic.images_per_camera": 2,
    "model.architecture": "short_osnet_x0_5",
    "prune.target": "short_osnet_x0_25",
    "prune.reconstruction_images": 8,
    "prune.recalibration_images": 8,
    "prune.criterion_images": 8,
    "prune.tuning.epochs": 0,
    "export.calibration_images": 8,
    # A network that has learnt nothing may change much in int8.
    "export.parity.int8_cosine": -1,
    "export.parity.int8_lowest_cosine": -1,
    "export.parity.loss": 1,
    "export.parity.spread": 0,
    "latency.rounds": 2,
    **{
        f"{training}.{key}": value
        for training in ("train", "finetune")
        for key, value in (
            ("epochs", 1), ("identities_per_batch", 4), ("images_per_identity", 2),
            ("precision", "32-true"),
        )
    },
}  # fmt: skip


def cells() -> list[tuple[list[str], str]]:
    """Return tags and code of the cells."""
    content = json.loads(NOTEBOOK.read_text())
    return [
        (cell["metadata"].get("tags", []), "".join(cell["source"]))
        for cell in content["cells"]
        if cell["cell_type"] == "code"
    ]


def test_it_is_stored_without_results() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.slow
def test_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    left: dict[str, Any] = {}
    for tags, code in cells():
        exec(compile(code, str(NOTEBOOK), "exec"), left)
        if "parameters" in tags:
            left["settings"] |= SMALL
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["train", "prune", "finetune"]
    assert left["nearest"].shape == (len(left["queries"]), 6)
    sheet = left["sheet"]
    assert isinstance(sheet, Image.Image)
    assert sheet.height == 128 * len(left["queries"])
    assert (tmp_path / "runs" / "notebook" / "export" / "int8.onnx").is_file()

"""The example for use from Python runs as the documentation shows it."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from reid_edge.data.schema import ReidData

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "embed_images.py"


@pytest.fixture
def script(
    checkpoint_file: Path, tiny_data: ReidData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    model = tmp_path / "runs" / "osnet_x0_5" / "finetune" / "checkpoint.pt"
    for folder in (model.parent, tmp_path / "images"):
        folder.mkdir(parents=True)
    shutil.copy(checkpoint_file, model)
    for image in tiny_data.query[:5]:
        shutil.copy(image.path, tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return EXAMPLE


def test_the_documented_program(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = runpy.run_path(str(script))
    assert left["embeddings"].shape == (5, 32)
    assert np.allclose(left["similarities"].diagonal(), 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for image, line in zip(left["images"], lines, strict=True):
        assert line.startswith(f"{image.name}: most like ")
        assert line.count(image.name) == 1


def test_it_ends_with_one_line_where_a_file_is_missing(script: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(SystemExit, match=r"error: .*checkpoint\.pt: no such file; give the path"):
        runpy.run_path(str(script))

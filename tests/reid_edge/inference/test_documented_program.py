"""The program that the documentation shows for use from Python runs as it stands there."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from reid_edge.data.schema import ReidData

PAGE = Path(__file__).resolve().parents[3] / "docs" / "inference.md"


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
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "program.py"


def test_the_documented_program(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = runpy.run_path(str(script))
    assert left["embeddings"].shape == (5, 512)
    assert torch.allclose(left["similarities"].diagonal(), torch.ones(5))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for image, line in zip(left["images"], lines, strict=True):
        assert line.startswith(f"{image.name}: most like ")
        assert line.count(image.name) == 1


def test_it_ends_with_one_line_where_a_file_is_missing(script: Path) -> None:
    shutil.rmtree(script.parent / "runs")
    with pytest.raises(SystemExit, match=r"error: .*checkpoint\.pt: no such file; give the path"):
        runpy.run_path(str(script))

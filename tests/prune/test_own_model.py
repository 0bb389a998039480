"""The program that the documentation shows for a network of one's own runs as it stands there."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from prune.layers import layer_widths

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-model.md"


def test_the_documented_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = "".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    script = tmp_path / "program.py"
    script.write_text(program)
    left = runpy.run_path(str(script))
    assert 0.35 < left["share"] <= 0.4
    assert left["result"].difference <= 1e-4
    assert layer_widths(left["compact"]) == left["widths"]
    with torch.inference_mode():
        assert torch.equal(left["loaded"](left["images"]), left["compact"](left["images"]))
    assert "of the operations" in capsys.readouterr().out

"""The example that prunes a network of another code base runs as the documentation shows it."""

import runpy
from pathlib import Path

import pytest
import torch

from prune.layer_widths import layer_widths

pytestmark = pytest.mark.medium

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "prune_own_model.py"


def test_the_documented_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    left = runpy.run_path(str(EXAMPLE))
    assert 0.35 < left["share"] <= 0.4
    assert left["result"].report.masked_compact_difference <= 1e-4
    assert layer_widths(left["compact"]) == left["content"]["widths"]
    with torch.inference_mode():
        assert torch.equal(left["loaded"](left["images"]), left["compact"](left["images"]))
    assert "of the operations" in capsys.readouterr().out

"""Whole files or none."""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from reid_edge.core.io import hash_file, write_bytes, write_json, write_torch


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_write_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"first")
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"


def test_torch_values_come_back(tmp_path: Path) -> None:
    write_torch(tmp_path / "x.pt", {"w": torch.arange(3)})
    assert torch.load(tmp_path / "x.pt", weights_only=True)["w"].tolist() == [0, 1, 2]


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == sha256(b"abc").hexdigest()

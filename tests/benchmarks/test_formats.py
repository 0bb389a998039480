"""The table of formats, from what an export and a timing left in a folder."""

import argparse
import json
from pathlib import Path

from benchmarks.formats import Row, files_of, print_table, times

PARITY = {"lowest_cosine": 0.9, "mean_cosine": 0.98, "same_nearest": 0.875}


def left_by_an_export(folder: Path) -> Path:
    """Write what an export of two formats leaves; return the folder of the group."""
    group = folder / "osnet" / "onnx"
    group.mkdir(parents=True)
    rows = [
        {"exporter": "onnx", "path": "float.onnx", "bytes": 2_000_000, "problems": [],
         "parity": PARITY},
        {"exporter": "onnx_int8", "path": "rejected-int8.onnx", "bytes": 1_000_000,
         "problems": ["mean cosine"], "parity": PARITY},
        {"exporter": "ncnn", "path": None, "bytes": 0, "problems": ["pnnx fails"], "parity": None},
        {"exporter": "litert", "path": "a", "bytes": 1, "problems": [], "parity": None},
    ]  # fmt: skip
    (group / "parity.json").write_text(json.dumps({"files": rows}))
    for name in ("float.onnx", "rejected-int8.onnx"):
        (group / name).write_bytes(b"")
    return group


def test_a_timed_file_is_not_timed_again(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    timed = [{"timings": [{"median_ms": ms} for ms in each]} for each in ((4.0, 40.0), (2.0, 10.0))]
    (group / "onnx_int8-times.json").write_text(json.dumps({"files": timed}))
    options = argparse.Namespace(output=tmp_path, rounds=2)
    found = [
        times("no such python", options, "osnet", file, group) for file in files_of(group, "onnx")
    ]
    assert found == [(1.0, 1.0), (0.5, 0.25), ()]


def test_the_table_says_what_was_made(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    rows = [Row("osnet", file, (0.5, 0.25)) for file in files_of(group, "onnx")]
    print_table(rows, tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == ("| osnet | `onnx` | yes | 0.9000 | 0.9800 | 87.5 | 2.00 MB | 0.50 | 0.25 |")
    assert "| `onnx_int8` | outside the limits | 0.9000 |" in lines[3]
    assert "| `ncnn` | no: pnnx fails | - | - | - | - |" in lines[4]
    assert len(lines) == 5

"""The table of formats, from what an export and a timing left in a folder."""

import argparse
import json
from pathlib import Path

from benchmarks.formats import (
    Row,
    checkpoint_row,
    files_of,
    precision,
    print_table,
    some_of,
    times,
)
from pipeline.export_images import find_images
from tests.pipeline.records import make_evaluation

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
        {"exporter": "c", "path": None, "bytes": 0, "problems": [], "parity": None,
         "note": "there is no C compiler here"},
        {"exporter": "rknn", "path": "rejected-a", "bytes": 1, "problems": ["no ONNX"],
         "parity": None},
        {"exporter": "hailo", "path": "b", "bytes": 1, "problems": [], "parity": None,
         "note": "not checked: a reason"},
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
    options = argparse.Namespace(output=tmp_path, rounds=2, no_times=False, table=False)
    found = [
        times("no such python", options, "osnet", file, group) for file in files_of(group, "onnx")
    ]
    assert found == [(1.0, 1.0), (0.5, 0.25), (), (), (), ()]


def test_a_table_of_what_is_there_makes_nothing(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    file = list(files_of(group, "onnx"))[1]
    options = argparse.Namespace(output=tmp_path, data=tmp_path, rounds=2, no_times=False)
    options.table = True
    assert times("no such python", options, "osnet", file, group) == ()
    assert precision("no such python", options, "osnet_x0_25", file, group) is None
    assert checkpoint_row(options, "osnet_x0_25", group / "float.onnx").precision is None


def test_some_images_are_copied_and_stay(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / "all" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    found = find_images(some_of(tmp_path / "all", 3, tmp_path / "some"))
    chosen = [path.relative_to(tmp_path / "all") for path in find_images(tmp_path / "all")[:3]]
    assert [path.relative_to(tmp_path / "some") for path in found] == chosen
    found[0].write_bytes(b"kept")
    some_of(tmp_path / "all", 3, tmp_path / "some")
    assert found[0].read_bytes() == b"kept"


def test_the_table_says_what_was_made(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    rows = [Row("osnet", file, (0.5, 0.25)) for file in files_of(group, "onnx")]
    print_table(rows, tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[2] == ("| osnet | `onnx` | yes | 0.9000 | 0.9800 | 87.5 | 2.00 MB | 0.50 | 0.25 |")
    assert "| `onnx_int8` | outside the limits | 0.9000 |" in lines[3]
    assert "| `ncnn` | no: pnnx fails | - | - | - | - |" in lines[4]
    assert "| `c` | no: there is no C compiler here | - |" in lines[5]
    assert "| `rknn` | cannot be run: no ONNX | - |" in lines[6]
    assert "| `hailo` | yes; not checked: a reason | - |" in lines[7]
    assert len(lines) == 8


def test_map_is_a_column_where_it_is_measured(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    (group / "onnx-metrics.json").write_text(make_evaluation(0.2873).to_json())
    (tmp_path / "osnet_x0_25-metrics.json").write_text(make_evaluation(0.2875).to_json())
    model = tmp_path / "model.pth"
    model.write_bytes(b"1234")
    options = argparse.Namespace(output=tmp_path, data=tmp_path / "no such data", table=False)
    rows = [checkpoint_row(options, "osnet_x0_25", model)]
    for file in list(files_of(group, "onnx"))[:3]:
        # The second file cannot be measured, because the program that would do it fails.
        value = precision("false", options, "osnet_x0_25", file, group)
        rows.append(Row("osnet_x0_25", file, (), value))
    print_table(rows, tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].endswith("| batch 16 | mAP, % |")
    assert lines[2].startswith("| osnet_x0_25 | `checkpoint` | yes | - |")
    assert [line.rpartition("| ")[2] for line in lines[2:]] == ["28.75 |", "28.73 |", "- |", "- |"]


def test_models_with_random_weights_are_not_measured(tmp_path: Path) -> None:
    group = left_by_an_export(tmp_path)
    (group / "onnx-metrics.json").write_text(make_evaluation(0.2873).to_json())
    options = argparse.Namespace(output=tmp_path, data=tmp_path, table=False)
    file = next(files_of(group, "onnx"))
    assert precision("false", options, "resnet18", file, group) is None
    options.data = None
    assert precision("false", options, "osnet_x0_25", file, group) is None

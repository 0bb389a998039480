import json
from pathlib import Path
from typing import Any

import pytest

from prune.plan_file import PlanFile, read_plan, write_plan
from reid_edge.core.errors import PruneError

PLAN = PlanFile(
    architecture="osnet_x1_0",
    input_size=(128, 64),
    widths={"conv1.conv": 32, "conv2.0.conv1.conv": 32},
    macs=68_000_000,
    parameters=630_000,
    note="by hand",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "plan.json"
    write_plan(path, PLAN)
    assert read_plan(path) == PLAN
    assert [file.name for file in path.parent.iterdir()] == ["plan.json"]


def changed(**values: Any) -> str:
    content = json.loads(PLAN.model_dump_json()) | values
    return json.dumps({key: value for key, value in content.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no plan, expected a JSON object"),
        ("[1, 2]", "no plan, expected a JSON object"),
        ('{"widths": {', "no plan, expected a JSON object"),
        (changed(format_version=2), "'format_version': input should be 1, found 2"),
        (changed(macs=None), "the key 'macs' is missing"),
        (changed(width={}), "unknown key 'width', known are format_version, architecture"),
        (changed(widths={}), "'widths': dictionary should have at least 1 item"),
        (changed(widths={"fc.0": 0}), "'widths / fc.0': input should be greater than or equal"),
        (changed(widths={"fc.0": 2.5}), "'widths / fc.0': input should be a valid integer"),
        (changed(widths={"fc.0": True}), "'widths / fc.0': input should be a valid integer"),
        (changed(input_size=[64]), "the key 'input_size / 1' is missing"),
        (changed(architecture=""), "'architecture': string should have at least 1 character"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(PruneError) as refused:
        read_plan(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: {words}")
    assert "\n" not in line


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PruneError, match=r"plan.json: cannot read this plan; give an existing"):
        read_plan(tmp_path / "plan.json")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00PK")
    with pytest.raises(PruneError, match="cannot read this plan"):
        read_plan(tmp_path / "plan.json")

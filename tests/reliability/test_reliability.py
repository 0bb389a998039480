"""The short version of the harness; ``make reliability`` is the long one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.contents import compare, contents
from tests.reliability.corruption import damage_file
from tests.reliability.faults import build, compiler

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler here")
# What a process does below its folder: one operation of each kind.
OPERATIONS = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.reliability.faults import Fault
folder = Path({folder!r})
Fault({kind!r}, {nth}, {action!r}).arm(folder, 1)
(folder / "made").mkdir()
with (folder / "made" / "a.partial").open("wb") as file:
    file.write(b"12345678")
    file.flush()
    os.fsync(file.fileno())
(folder / "made" / "a.partial").rename(folder / "made" / "a")
(folder / "made" / "a").unlink()
print("not stopped")
"""


def operate(library: Path, folder: Path, kind: str, nth: int, action: str) -> tuple[int, str]:
    script = OPERATIONS.format(
        root=str(ROOT), folder=str(folder), kind=kind, nth=nth, action=action
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "action", "left"),
    [
        ("mkdir", "kill before", {}),
        ("open", "kill before", {}),
        ("open", "kill after", {"made/a.partial": b""}),
        ("write", "kill before", {"made/a.partial": b""}),
        ("write", "kill halfway", {"made/a.partial": b"1234"}),
        ("write", "kill after", {"made/a.partial": b"12345678"}),
        ("fsync", "kill before", {"made/a.partial": b"12345678"}),
        ("rename", "kill before", {"made/a.partial": b"12345678"}),
        ("rename", "kill after", {"made/a": b"12345678"}),
        ("unlink", "kill before", {"made/a": b"12345678"}),
        ("unlink", "kill after", {}),
    ],
)
def test_a_process_dies_at_the_chosen_operation(
    tmp_path: Path, kind: str, action: str, left: dict[str, bytes]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    code, text = operate(build(tmp_path), folder, kind, 1, action)
    assert code == -9
    assert text.startswith(f"{kind} {folder}/made")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {str(path.relative_to(folder)): path.read_bytes() for path in files} == left


@needs_compiler
def test_an_operation_fails_with_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    code, text = operate(build(tmp_path), folder, "fsync", 1, "fail once")
    assert code == 1
    assert "not stopped" not in text
    (folder / "made" / "a.partial").unlink()
    (folder / "made").rmdir()
    assert operate(tmp_path / "faults.so", folder, "fsync", 2, "fail once") == (0, "not stopped\n")


def test_contents_see_bits_but_no_wall_times(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text(json.dumps({"seconds": 1.0, "loss": 2.0}))
    (tmp_path / "a.pt").write_bytes(b"abc")
    expected = contents(tmp_path)
    (tmp_path / "stage.json").write_text(json.dumps({"seconds": 3.0, "loss": 2.0}))
    assert compare(expected, contents(tmp_path)) == ([], [])
    (tmp_path / "stage.json").write_text(json.dumps({"seconds": 1.0, "loss": 2.5}))
    (tmp_path / "a.pt").write_bytes(b"abd")
    (tmp_path / "b.tmp").write_bytes(b"")
    assert compare(expected, contents(tmp_path)) == (["a.pt", "stage.json"], ["b.tmp"])
    (tmp_path / "a.pt").unlink()
    assert "a.pt" in compare(expected, contents(tmp_path))[0]


@pytest.mark.parametrize("kind", ["bit flipped", "cut short", "emptied"])
def test_a_damaged_file_differs(tmp_path: Path, kind: str) -> None:
    import random

    path = tmp_path / "a.pt"
    path.write_bytes(b"abcdefgh")
    damage_file(path, kind, random.Random(0))
    assert path.read_bytes() != b"abcdefgh"


@needs_compiler
def test_kills_cost_no_bit(tmp_path: Path) -> None:
    command = ["-m", "tests.reliability", "--short", "--folder", str(tmp_path)]
    ended = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    assert "6 kills" in ended.stdout
    assert "nothing is wrong" in ended.stdout

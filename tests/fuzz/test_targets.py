"""A bounded number of inputs of every kind; ``make fuzz`` runs more."""

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from reid_edge.core.errors import DataError
from tests.fuzz.harness import Runner, Tally, fuzz, table
from tests.fuzz.target import Target, apply_damage
from tests.fuzz.targets import TARGETS

pytestmark = pytest.mark.medium

DRAWN = 3
SECONDS = 10.0


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_accepted_or_refused_in_one_line(name: str) -> None:
    tally = fuzz(TARGETS[name], DRAWN, seconds=SECONDS)
    assert tally.inputs
    assert not tally.failures


def misbehave(value: str, folder: Path) -> None:
    if value == "hang":
        time.sleep(60)
    if value == "memory":
        bytearray(8 << 30)
    if value == "exit":
        import os

        os._exit(3)
    if value == "traceback":
        raise KeyError(value)
    if value == "refused":
        raise DataError("a.jpg: not an image; give one")
    assert not list(folder.iterdir())
    (folder / "file").write_text(value)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("accepted", "accepted"), ("refused", "refused"), ("hang", "hang"), ("memory", "memory"),
        ("exit", "killed"), ("traceback", "traceback"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_seen_and_the_next_input_runs(value: str, outcome: str) -> None:
    runner = Runner(Target("test", st.text(), misbehave), seconds=1.0)
    try:
        assert runner.run(value)[0] == outcome
        assert runner.run("accepted")[0] == "accepted"
    finally:
        runner.close()


def test_the_shortest_input_of_each_failure_is_kept() -> None:
    tally = fuzz(Target("test", st.just("traceback"), misbehave, known=["exit", "refused"]), 2)
    assert tally.outcomes == {"killed": 1, "refused": 1, "traceback": 1}
    assert {key.partition(":")[0] for key in tally.failures} == {"killed", "traceback"}
    assert "| test | 3 | 0 | 1 | 1 | 0 | 0 | 1 |" in table([("test", tally)])
    assert table([("none", Tally())]).splitlines()[-1].startswith("| none | 0 | 0 |")


def test_damage_changes_a_file() -> None:
    content = bytes(range(10))
    assert apply_damage(content, []) == content
    assert apply_damage(content, [("cut", 3, b"x")]) == b"\x00\x01\x02"
    assert apply_damage(content, [("set", 1, b"ab")]) == b"\x00ab" + content[3:]
    assert apply_damage(content, [("insert", 0, b"ab"), ("delete", 0, b"xx")]) == content

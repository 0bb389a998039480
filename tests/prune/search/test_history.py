from pathlib import Path

import pytest

from prune.search.history import (
    Answered,
    Asked,
    Event,
    Trial,
    append_event,
    best_trial,
    drop_torn_line,
    finished_trials,
    read_events,
)
from reid_edge.core.errors import PruneError

EVENTS: list[Event] = [
    Asked(0, {"a": 0.5}),
    Asked(1, {"a": 0.1 + 0.2}),
    Answered(1, 0.25),
    Answered(0, 0.75),
    Asked(2, {"a": 0.9}),
]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "trials.jsonl"
    for event in EVENTS:
        append_event(path, event)
    return path


def test_events_come_back_bit_for_bit_and_in_order(history: Path) -> None:
    assert read_events(history) == EVENTS


def test_lines_name_their_schema_and_those_without_one_are_read(history: Path) -> None:
    assert all('"schema_version": 1' in line for line in history.read_text().splitlines())
    history.write_text('{"trial": 0, "sample": {"a": 0.5}}\n{"trial": 0, "score": 0.75}\n')
    assert read_events(history) == [EVENTS[0], EVENTS[3]]


def test_no_file_means_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "trials.jsonl") == []


def test_finished_trials_are_in_the_order_of_their_numbers() -> None:
    found = finished_trials(EVENTS)
    assert found == [Trial(0, {"a": 0.5}, 0.75), Trial(1, {"a": 0.1 + 0.2}, 0.25)]


def test_the_earliest_of_equally_good_trials_is_the_best() -> None:
    trials = [Trial(0, {}, 0.1), Trial(2, {}, 0.7), Trial(1, {}, 0.7)]
    assert best_trial(trials).number == 1


def test_a_line_that_was_cut_off_counts_as_not_written(history: Path) -> None:
    whole = history.read_bytes()
    with history.open("ab") as file:
        file.write(b'{"trial": 2, "sco')
    assert read_events(history) == EVENTS
    drop_torn_line(history)
    assert history.read_bytes() == whole


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "x",
        '{"trial": 1, "score": 1, "schema_version": 2}',
        '{"trial": 1, "sample": 3}',
        '{"trial": null}',
    ],
)
def test_another_line_that_cannot_be_read_is_named(history: Path, line: str) -> None:
    with history.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(PruneError, match=r"trials.jsonl: line 6 is no event of a search"):
        read_events(history)

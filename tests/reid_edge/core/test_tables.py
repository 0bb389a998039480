import io

import pytest
from rich.console import Console

from reid_edge.core.tables import FittingTable

LONG = "a long reason that does not fit on one line of a narrow terminal"
TABLE = FittingTable(
    "A [title]",
    ["stage", "why", "size", "mAP", "took"],
    [
        ["train", LONG, "9 MB", "62.4", "3 s"],
        ["prune", "", "12,345 MB", "61.4", "4 s"],
    ],
    left=2,
    drop=["took", "size"],
    breaking=["why"],
    footer=["sum", "", "1", "2", "3"],
    caption="below",
)  # fmt: skip


def printed(width: int, *, terminal: bool) -> list[str]:
    text = io.StringIO()
    Console(
        file=text, width=width, force_terminal=terminal, soft_wrap=not terminal, color_system=None
    ).print(TABLE)
    return text.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "left_out"),
    [(80, ""), (47, "took"), (36, "size, took"), (20, "why, size, mAP, took")],
)
def test_a_narrow_terminal_has_fewer_columns_and_whole_numbers(width: int, left_out: str) -> None:
    lines = printed(width, terminal=True)
    assert all(len(line) <= width for line in lines if "not shown" not in line)
    text = "\n".join(lines)
    assert "…" not in text
    assert ("62.4" in text) == ("mAP" not in left_out)
    assert ("12,345 MB" in text) == ("size" not in left_out)
    joined = " ".join(text.split())
    assert (f"not shown: {left_out};" in joined) == bool(left_out)
    assert "A [title]" in text
    assert "below" in text


def test_a_pipe_gets_every_column_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(20, terminal=False)
    assert lines[0] == "A [title]"
    assert lines[1].split() == ["stage", "why", "size", "mAP", "took"]
    assert LONG in lines[2]
    assert lines[3].split() == ["prune", "12,345", "MB", "61.4", "4", "s"]
    assert lines[4].split() == ["sum", "1", "2", "3"]
    assert lines[5] == "below"
    assert all(line == line.rstrip() for line in lines)
    assert len({len(line) for line in lines[1:5]}) == 1  # columns are aligned


def test_a_cell_of_two_lines_is_one_in_a_pipe() -> None:
    table = FittingTable("", ["file", "latency"], [["a", "2.0 ms\n4 x"], ["b", "9.0 ms"]])
    text = io.StringIO()
    Console(file=text, soft_wrap=True).print(table)
    assert text.getvalue().splitlines() == [
        "file      latency",
        "a     2.0 ms, 4 x",
        "b          9.0 ms",
    ]
    text = io.StringIO()
    Console(file=text, width=20, force_terminal=True, color_system=None).print(table)
    assert "│ a    │  2.0 ms │" in text.getvalue()
    assert "│      │     4 x │" in text.getvalue()

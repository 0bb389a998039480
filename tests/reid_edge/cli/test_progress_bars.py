"""Progress on a terminal, in a pipe, and the lines of the log beside it."""

import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from reid_edge.cli import progress_bars as module
from reid_edge.cli.guard import Guard, Parser
from reid_edge.cli.progress_bars import progress_bars

LONG = "a line that is longer than the terminal is wide, and is not broken into two: " * 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def log_level() -> Iterator[None]:
    """Restore what a guard sets."""
    logger = logging.getLogger("reid_edge")
    state = logger.level, logger.handlers, logger.propagate
    yield
    logger.level, logger.handlers, logger.propagate = state


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Let standard error be a terminal from here on."""

    def switch() -> Terminal:
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        return screen

    return switch


def work_and_log(headline: str | None = None, *, quiet: bool = False) -> None:
    line = None if headline is None else lambda: headline
    with progress_bars(line, quiet=quiet) as start:
        report = start("prune 2/3: measuring images")
        for done in range(1, 5):
            report(done * 1000, 4000)
            logging.getLogger("reid_edge.part").info("%s%d", LONG, done)


def test_a_terminal_shows_bars_below_the_log(
    terminal: Callable[[], Terminal], log_level: None
) -> None:
    screen = terminal()
    assert Guard().run(lambda: work_and_log("stage 2 of 4: prune, 40 s so far")) == 0
    text = screen.getvalue()
    assert "stage 2 of 4: prune, 40 s so far" in text
    assert "prune 2/3: measuring images" in text
    assert "1,000 of 4,000" in text
    for done in range(1, 5):
        assert f"INFO {LONG}{done}\n" in text.replace("\r\n", "\n")


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str], log_level: None) -> None:
    assert Guard().run(lambda: work_and_log("not shown")) == 0
    assert capsys.readouterr().err.splitlines() == [f"INFO {LONG}{n}" for n in range(1, 5)]


def test_a_pipe_gets_a_line_of_what_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log_level: None
) -> None:
    clock = iter([0.0, 10.0, 40.0, 50.0, 80.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))

    def work() -> None:
        with progress_bars() as start:
            report = start("measuring")
            for done in (1000, 4000, 5000, 8000):
                report(done, 8000)
            start("training", lambda *_: "epoch 1", lines=False)(1, 2)

    assert Guard().run(work) == 0
    assert capsys.readouterr().err == "INFO measuring: 4,000 of 8,000, 40 s left\n"


def test_the_time_left_of_work_that_begins_again_is_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log_level: None
) -> None:
    clock = iter([0.0, 100.0, 110.0, 140.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))

    def work() -> None:
        with progress_bars() as start:
            report = start("scoring")
            for done in (8, 1, 4):  # the first pass takes 100 s, the second 10 s for each
                report(done, 8)

    assert Guard().run(work) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["INFO scoring: 1 of 8, 70 s left", "INFO scoring: 4 of 8, 40 s left"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], ["INFO", "WARNING"]),
        (["--quiet"], ["WARNING"]),
        (["--log-level", "debug"], ["DEBUG", "INFO", "WARNING"]),
        (["--log-level", "error"], []),
    ],
)
def test_how_much_of_the_log_is_shown(
    arguments: list[str], shown: list[str], capsys: pytest.CaptureFixture[str], log_level: None
) -> None:
    parser = Parser(prog="x")
    parser.add_log_options()
    logger = logging.getLogger("reid_edge.part")

    def log() -> None:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logger.log(level, "a line")

    assert Guard().run(log, parser.parse_args(arguments)) == 0
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == shown


def test_quiet_and_a_level_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="x")
    parser.add_log_options()
    with pytest.raises(SystemExit):
        parser.parse_args(["--quiet", "--log-level", "debug"])
    assert "not allowed with argument --quiet" in capsys.readouterr().err


def test_quiet_shows_no_bars(terminal: Callable[[], Terminal], log_level: None) -> None:
    screen = terminal()
    options = Parser(prog="x")
    options.add_log_options()
    given = options.parse_args(["--quiet"])
    assert Guard().run(lambda: work_and_log("a headline", quiet=given.quiet), given) == 0
    assert screen.getvalue() == ""


def test_a_level_has_a_colour_on_a_terminal_alone(
    terminal: Callable[[], Terminal], monkeypatch: pytest.MonkeyPatch, log_level: None
) -> None:
    def warn() -> None:
        logging.getLogger("reid_edge.part").warning("beware")

    screen = terminal()
    assert Guard().run(warn) == 0
    assert screen.getvalue() == "\x1b[33mWARNING\x1b[0m beware\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Guard().run(warn) == 0
    assert screen.getvalue().endswith("\nWARNING beware\n")

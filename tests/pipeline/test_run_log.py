"""The log file of a run has everything, whatever the terminal shows."""

import logging
import warnings
from pathlib import Path

import pytest

from pipeline.run_log import LOG_FILE, log_file

PACKAGES = ("toy_package",)
logger = logging.getLogger("toy_package.part")


def lines(folder: Path) -> list[str]:
    """Return the lines without the time."""
    return [line[24:] for line in (folder / LOG_FILE).read_text().splitlines()]


def test_the_file_has_every_level_and_the_libraries(tmp_path: Path) -> None:
    # Commands that other tests run in this process leave theirs.
    package = logging.getLogger("toy_package")
    handlers, level = list(package.handlers), package.level
    for _ in range(2):  # a second command goes on behind the first
        with log_file(tmp_path, PACKAGES, ["run", "a=1"]):
            logger.debug("a detail")
            logging.getLogger("a_library.part").warning("of a library")
            logging.getLogger("a_library.part").info("too much")
            warnings.warn("a warning", UserWarning, stacklevel=1)
    found = lines(tmp_path)
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    assert found[0] == "DEBUG toy_package.part: a detail"
    assert found[1] == "WARNING a_library.part: of a library"
    assert (package.handlers, package.level) == (handlers, level)


class Shown(logging.Handler):
    """What a program that uses the library has set up."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_handlers_of_a_program_get_no_more_than_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Shown()
    package, part = logging.getLogger("toy_package"), logging.getLogger("toy_package.verbose")
    monkeypatch.setattr(logging.root, "handlers", [shown])
    monkeypatch.setattr(part, "level", logging.DEBUG)  # by the program
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", True)
    package.setLevel(logging.INFO)
    with log_file(tmp_path, PACKAGES, ["run"]):
        logger.debug("a detail")
        logger.info("a line")
        part.debug("asked for")
    logger.info("afterwards")
    assert shown.lines == ["a line", "asked for", "afterwards"]
    assert shown.filters == []
    assert "toy_package.part: a detail" in (tmp_path / LOG_FILE).read_text()


def test_a_program_without_handlers_still_sees_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.getLogger("toy_package"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("toy_package"), "propagate", True)
    with log_file(tmp_path, PACKAGES, ["run"]):
        logger.info("a line")
        logger.warning("look here")
    assert capsys.readouterr().err == "look here\n"
    assert logging.root.handlers == []


def test_it_says_what_a_run_ended_with(tmp_path: Path) -> None:
    def end() -> None:
        with log_file(tmp_path, PACKAGES, ["run"]):
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        end()
    text = (tmp_path / LOG_FILE).read_text()
    assert "ERROR pipeline.run_log: ended by\nTraceback" in text
    assert text.endswith("ValueError: no more\n")


def test_a_file_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / LOG_FILE).mkdir()
    with log_file(tmp_path, PACKAGES, ["run"]):
        logger.warning("it goes on")
    assert f"{tmp_path / LOG_FILE}: there is no log file (Is a directory)" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / LOG_FILE).symlink_to("/dev/full")
    with log_file(tmp_path, PACKAGES, ["run"]):
        logger.warning("it goes on")
    assert "Traceback" not in capsys.readouterr().err

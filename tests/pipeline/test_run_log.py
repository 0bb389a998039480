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

"""A file that an interrupted work resumes from is whole, or is not used."""

import logging
from pathlib import Path

import pytest

from reid_edge.core.checksums import (
    CHECKSUMS,
    are_intact,
    forget_files,
    record_checksums,
    write_checked,
)
from reid_edge.core.io import write_bytes


def test_a_written_file_is_intact_until_a_bit_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state"
    assert not are_intact(path)
    assert not caplog.text  # nothing was there, so nothing is damaged
    write_checked(path, b"one")
    write_checked(path, b"two")
    assert are_intact(path)
    path.write_bytes(b"one")
    with caplog.at_level(logging.WARNING):
        assert not are_intact(path)
    assert f"{path}: damaged or incomplete, so it is not used" in caplog.text


@pytest.mark.parametrize("replaced", [False, True])
def test_a_kill_before_or_after_the_file_is_replaced_leaves_it_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    def killed(path: Path, content: bytes) -> None:
        if replaced:
            write_bytes(path, content)
        raise KeyboardInterrupt

    path = tmp_path / "state"
    write_checked(path, b"one")
    with monkeypatch.context() as patched:
        patched.setattr("reid_edge.core.checksums.write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            write_checked(path, b"two")
    assert path.read_bytes() == (b"two" if replaced else b"one")
    assert are_intact(path)
    write_checked(path, b"three")
    assert are_intact(path)
    path.write_bytes(b"two")  # an older one is no state of now
    assert not are_intact(path)


def test_files_of_a_step_are_recorded_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    record_checksums(first, second)
    assert are_intact(first, second)
    second.unlink()
    assert not are_intact(first, second)
    forget_files([first])
    assert not first.exists()


@pytest.mark.parametrize("content", ["", "[1]", '{"state": 1}', "\xff"])
def test_damaged_checksums_trust_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state"
    write_checked(path, b"one")
    (tmp_path / CHECKSUMS).write_text(content, encoding="latin-1")
    assert not are_intact(path)

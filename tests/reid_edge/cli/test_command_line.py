"""``reid-edge``: exit codes, and one line for whatever is wrong."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reid_edge.cli import models
from reid_edge.cli.main import COMMANDS, main
from reid_edge.data.readers import READERS
from reid_edge.models.registry import ARCHITECTURES
from tests.plain_lines import is_plain

pytestmark = pytest.mark.medium

Paint = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = run(capsys, "models")
    assert (code, err) == (0, "")
    assert all(name in out for name in ARCHITECTURES)
    row = next(line for line in out.splitlines() if line.startswith("osnet_x0_5 "))
    assert re.split(r" {2,}", row) == [
        "osnet_x0_5",
        "630,034",
        "272.9 M",
        "256 x 128",
        "512",
    ]
    assert is_plain(out)


def test_models_at_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "models", "--height", 128, "--width", 64)
    assert code == 0
    assert "128 x 64" in out
    code, out, err = run(capsys, "models", "--height", 0)
    assert (code, out, err) == (2, "", "error: an input of 0 x 128 has no pixels\n")


def test_check(capsys: pytest.CaptureFixture[str], market: Path) -> None:
    code, out, err = run(capsys, "check", market)
    assert (code, err) == (0, "")
    assert "read as market1501" in out
    assert "no problems found" in out


def test_check_finds_problems(capsys: pytest.CaptureFixture[str], market: Path) -> None:
    broken = market / "query" / "0001_c1s1_000005_00.jpg"
    broken.write_bytes(b"")
    code, out, err = run(capsys, "check", market)
    assert (code, err) == (1, "")
    # Not wrapped, whatever the terminal: a path has to stay whole.
    assert f"  {broken}: cannot be decoded" in out
    assert "problem: 1 images cannot be read" in out


def test_check_says_that_a_part_is_decoded(
    capsys: pytest.CaptureFixture[str], market: Path
) -> None:
    said = "images was decoded; of the others, the whole file was hashed"
    code, out, _ = run(capsys, "check", market, "--decode", "3")
    assert (code, out.count(f"one of 3 {said}")) == (0, 1)
    for arguments in ([], ["--decode", "all"], ["--decode", "9"]):
        code, out, _ = run(capsys, "check", market, *arguments)
        assert (code, said in out) == (0, False)
    with pytest.raises(SystemExit):
        main(["check", str(market), "--decode", "0"])
    assert "expected a number above 0 or all, found '0'" in capsys.readouterr().err
    code, out, err = run(capsys, "check", market, "--as", "unlabelled", "--decode", "3")
    assert (code, out) == (2, "")
    assert err == (
        f"error: --decode 3: {market} has no identities, and all images of such a set are decoded; "
        "leave --decode out\n"
    )


def test_check_names_what_is_not_utf_8(capsys: pytest.CaptureFixture[str], market: Path) -> None:
    broken = market / "query" / os.fsdecode(b"0001_c1s1_000005_\xf6.jpg")
    try:
        broken.write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    code, out, _ = run(capsys, "check", market)
    assert (code, "0001_c1s1_000005_\\udcf6.jpg: cannot be decoded" in out) == (1, True)


def test_check_as_another_data_set(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, paint: Paint
) -> None:
    paint(tmp_path / "ann" / "1.png", 1)
    paint(tmp_path / "bob" / "1.png", 2)
    assert "read as folders" in run(capsys, "check", tmp_path)[1]
    code, out, err = run(capsys, "check", tmp_path, "--as", "folder")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown data set 'folder': did you mean 'folders'? known are ")
    code, _, err = run(capsys, "check", tmp_path, "--as", "market1501")
    assert code == 2
    assert "no folder 'bounding_box_train' in it" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evalute"], "unknown 'evalute': did you mean 'evaluate'? known are run, "),
        (["test"], "unknown 'test': did you mean 'evaluate'? known are run, "),
        (["xyz"], "unknown 'xyz': known are run, "),
        (["evaluate", "--weight", "x"], "unknown option --weight: did you mean --weights?; see"),
        (["verify", "--ckpt=x"], "unknown option --ckpt: did you mean --weights?; see --help"),
        (["check", "--zzz", "."], "unrecognized arguments: --zzz; see --help"),
    ],
)
def test_a_misspelt_command_line_is_told_what_was_meant(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "error: nowhere: no such folder\n"),
        (["check", "file"], "error: file: is a file; expected a folder\n"),
        (["check", "a.zip"], "error: a.zip: an archive; unpack it with: reid-edge prepare "),
        (["check", "file", "--as", "market1501"], "error: file: is a file; expected a folder\n"),
        (["check", "."], "error: .: looks like no data set that is known; name one of "),
        (["prepare", "market"], "error: unknown data set 'market': did you mean 'market1501'?"),
        (["prepare", "msmt17"], "error: msmt17 cannot be fetched from Kaggle; get its archive"),
        (["prepare", "market1501", "--from", "b.zip"], "error: b.zip: no such archive or folder\n"),
        (["prepare", "market1501", "--from", "a.zip"], "error: a.zip: cannot be unpacked (File is"),
        (["prepare", "market1501", "--from", "file"], "error: file: no archive that is known; kn"),
        (
            ["prepare", "market1501", "--max-ids", "1"],
            "error: max_ids 1: keep 2 identities or more",
        ),
        (
            ["prepare", "market1501", "--from", ".", "--split", "1"],
            "error: market1501 has no option 'split': it takes none\n",
        ),
    ],
)
def test_bad_input_takes_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "a.zip"):
        (tmp_path / name).write_text("hello")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.zip"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/some/set"),
         "error: /some/set: Permission denied\n"),
        (OSError("no device"), "error: no device\n"),
    ],
)  # fmt: skip
def test_the_file_systems_errors_take_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    message: str,
) -> None:
    def fail(_options: object) -> int:
        raise error

    monkeypatch.setattr(models, "run", fail)
    assert run(capsys, "models") == (2, "", message)


def test_paths_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", 300 * "a")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {300 * 'a'}: ")
    for arguments in (["check", "~nobody-here/set"], ["prepare", "csv", "--to=~nobody-here/set"]):
        line = "error: ~nobody-here/set: '~nobody-here' is the home of nobody here; write the path "
        assert run(capsys, *arguments) == (2, "", f"{line}out\n")


def test_a_home_is_written_out_for_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _, _, err = run(capsys, "identify", "--query=~/a.jpg", "--index=~/people")
    assert err.startswith(f"error: {tmp_path}/people: no such folder; make an index with")


def test_options_are_read_before_torch_is_loaded() -> None:
    code = "import sys, reid_edge.__main__; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_prepare(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    market: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "prepare", "market1501", "--from", market)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is the copy whole? --allow-other-counts takes it as it is" in err
    code, out, _ = run(capsys, "prepare", "market1501", "--from", market, "--allow-other-counts")
    assert code == 0
    assert out == (
        "data/market1501: 4 training images of 2 identities, 2 queries of 2, 3 gallery images\n"
    )
    assert run(capsys, "check", "data/market1501")[0] == 0


def test_prepare_with_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, paint: Paint
) -> None:
    for name in ("train/1", "val/2", "val/3", "query/4", "gallery/4"):
        for camera in (1, 2):
            paint(tmp_path / "own" / name / f"c{camera}.jpg", camera)
    code, out, _ = run(
        capsys, "prepare", "folders", "--from", tmp_path / "own", "--to", tmp_path / "out",
        "--train-all", "--max-ids", 2,
    )  # fmt: skip
    assert code == 0
    assert "4 training images of 2 identities" in out
    record = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert record["options"] == {"train_all": True}


@pytest.mark.parametrize("command", ["prepare", "check", "evaluate"])
def test_help_names_every_data_set(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert ", ".join(READERS) in " ".join(capsys.readouterr().out.split()).replace("- ", "-")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert COMMANDS[command].HELP in " ".join(out.split())


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "run", interrupt)
    assert run(capsys, "models") == (130, "", "interrupted\n")

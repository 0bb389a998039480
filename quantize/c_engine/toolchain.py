"""Build an engine's folder with the C compiler of this machine, and run its test program."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reid_edge.core.errors import QuantizeError

LIBRARY, TEST_PROGRAM, TEST_BITS = "model.so", "model_test", "test.bits"
FLAGS = ("-std=c11", "-O2")
_TIME_LIMIT_S = 600


def find_compiler() -> list[str] | None:
    """Return the command of a C compiler: ``$CC``, or the first of cc, gcc and clang.

    None if there is none, or if its libraries could not be loaded here (on other systems than
    Linux).
    """
    if not sys.platform.startswith("linux"):
        return None
    for command in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return None


def build(folder: Path, compiler: Sequence[str], *, flags: Sequence[str] = FLAGS) -> Path:
    """Build the library and the test program of a folder; return the library.

    The test program writes the embeddings of its images, and from then on expects these bits. All
    kernels of this processor have to give the same ones.

    Raises:
        QuantizeError: the compiler fails, or the test program does.
    """
    command, both = [*compiler, *flags], ["-fPIC", "-c", "-o", "model.o", "model.c"]
    library = ["-shared", "-fPIC", "-include", "metadata.h", "-o", LIBRARY, "library.c"]
    _run([*command, *both], folder, "the C compiler fails")
    _run([*command, *library, "model.o", "-lm"], folder, "the C compiler fails")
    _run([*command, "-o", TEST_PROGRAM, "test.c", "model.o", "-lm"], folder, "the C compiler fails")
    (folder / "model.o").unlink()
    (folder / TEST_BITS).unlink(missing_ok=True)
    program = str((folder / TEST_PROGRAM).resolve())
    _run([program], folder, "its kernels differ")
    _run([program, "portable", TEST_BITS], folder, "its test program fails")
    (folder / TEST_PROGRAM).unlink()
    return folder / LIBRARY


def _run(command: list[str], folder: Path, problem: str) -> None:
    try:
        finished = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QuantizeError(f"{folder}: {problem}: {error}") from error
    if finished.returncode:
        said = (finished.stderr or finished.stdout).strip().splitlines()
        errors = [line for line in said if "error" in line] or said
        reason = errors[0] if errors else f"exit code {finished.returncode}"
        raise QuantizeError(f"{folder}: {problem}: {reason}")

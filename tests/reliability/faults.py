"""Faults of the file system, injected into a process by a library for ``LD_PRELOAD``."""

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("faults.c")
KINDS = ("open", "write", "rename", "fsync", "unlink", "mkdir")
ANY = "any"
ACTIONS = ("kill before", "kill after", "kill halfway", "fail once", "fail from then on")

Action = Literal["kill before", "kill after", "kill halfway", "fail once", "fail from then on"]


@dataclass(frozen=True)
class Fault:
    """One operation that goes wrong.

    Attributes:
        kind: of the operation, or ``any``.
        nth: the first is 1.
        action: what happens there.
        error: the error number of an operation that fails.
    """

    kind: str
    nth: int
    action: Action
    error: int = errno.EIO

    def arm(self, folder: Path, log: int) -> None:
        """Arm the library in this process.

        Args:
            folder: operations on files below it count.
            log: file descriptor; the operation's kind and path are written to it.
        """
        kinds = (*KINDS, ANY)
        ctypes.CDLL(os.environ["LD_PRELOAD"]).faults_arm(
            os.fsencode(folder),
            kinds.index(self.kind),
            ctypes.c_long(self.nth),
            ACTIONS.index(self.action),
            self.error,
            log,
        )


def compiler() -> str | None:
    """Return the path of a C compiler, or None if there is none."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(folder: Path) -> Path:
    """Compile the library.

    Raises:
        RuntimeError: there is no C compiler.
    """
    command, library = compiler(), folder / "faults.so"
    if command is None:
        raise RuntimeError("the reliability harness needs a C compiler (apt install gcc)")
    flags = ["-shared", "-fPIC", "-O1", "-w", "-o", str(library)]
    subprocess.run([command, *flags, str(SOURCE), "-ldl"], check=True)
    return library

"""How every command runs: its parser, its log lines, its one-line errors and its exit code."""

import argparse
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from reid_edge.cli.interruption import Interruption
from reid_edge.cli.log_lines import LogLines
from reid_edge.core.errors import DataError, ReidError, one_line
from reid_edge.core.io import allow_any_file_name
from reid_edge.core.openmp import limit_spinning
from reid_edge.core.suggestions import nearest_name
from reid_edge.data.paths import expand_home

EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141  # as a program ends that SIGPIPE killed
LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and what was meant.

    An option is never taken for another that begins with the same letters.

    Args:
        settings: returns the names of settings, which the command takes as ``name=value``.
    """

    def __init__(
        self, *args: Any, settings: Callable[[], Iterable[str]] = tuple, **kwargs: Any
    ) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)
        self._settings = settings
        self._words: list[str] = []

    def add_log_options(self) -> None:
        """Add the options that say how much of the log the terminal shows."""
        either = self.add_mutually_exclusive_group()
        either.add_argument(
            "--quiet", action="store_true",
            help="print nothing but warnings and errors while it works, and no progress",
        )  # fmt: skip
        either.add_argument(
            "--log-level", choices=LOG_LEVELS, default="info", metavar="LEVEL",
            help=f"which lines of the log to print: {', '.join(LOG_LEVELS)} (default: info)",
        )  # fmt: skip

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line, and remember it for an error."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        options = self._options()
        given = (word.partition("=")[0] for word in self._words if word[:2] == "--" < word)
        # First: what it stands for may be all that is missing.
        unknown = next((word for word in given if word not in options), None)
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message)
        if unknown:
            name = unknown.lstrip("-")
            option = nearest_name(name, [known.lstrip("-") for known in options])
            setting = None if option else nearest_name(name, self._settings())
            if option:
                message = f"unknown option {unknown}: did you mean --{option}?"
            elif setting:
                message = f"unknown option {unknown}: did you mean the setting {setting}=VALUE?"
        elif choice:
            known = choice[2].replace("'", "")
            near = nearest_name(choice[1], known.split(", "))
            hint = f"did you mean {near!r}? " if near else ""
            where = message.partition(": invalid choice")[0]
            message = f"{where}: unknown {choice[1]!r}: {hint}known are {known}"
        say(f"error: {message}; see --help")
        sys.exit(EXIT_BAD_INPUT)

    def _options(self) -> list[str]:
        """Return the options of this parser, or those of the command that was given."""
        options = [option for option in self._option_string_actions if option.startswith("--")]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and self._words:
                command = action.choices.get(self._words[0])
                options += [] if command is None else command._options()
        return options


def path_argument(text: str) -> Path:
    """Read a path argument and expand its ``~``: a shell does not do so in ``--run=~/x``."""
    try:
        return expand_home(Path(text))
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def say(line: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Guard:
    """Runs what a command does, and turns what goes wrong into one line and an exit code.

    Attributes:
        packages: whose log lines are shown.
        timestamps: begin log lines with the time.
        interrupted: what an interruption prints.
        file_hint: what to do about an error of the file system.
        memory_hint: what to do when memory is used up.
        process_hint: what to do when one of the training processes is killed.
        worker_hint: what to do when a process that loads images is killed.
        silent: print no errors; another process prints the same ones.
    """

    packages: tuple[str, ...] = ("reid_edge",)
    timestamps: bool = False
    interrupted: str = "interrupted"
    file_hint: str = ""
    memory_hint: str = "lower --batch-size"
    process_hint: str = "give it more memory"
    worker_hint: str = "--workers 0"
    silent: bool = False

    def run(
        self, action: Callable[[], int | None], options: argparse.Namespace | None = None
    ) -> int:
        """Run an action.

        Args:
            action: does the work; an error of it becomes one line.
            options: those of ``Parser.add_log_options`` among others; None: the defaults.

        Returns:
            The exit code: the action's own (0 if it returns none), 2 for bad input and for what
            ran out, 130 or 143 when SIGINT or SIGTERM interrupted it, 141 when nobody reads the
            output any more.
        """
        limit_spinning()  # before the action imports PyTorch
        allow_any_file_name()
        self._set_up_logging(log_level(options))
        interruption = Interruption(lambda: None if self.silent else say(self.interrupted))
        try:
            with interruption.listening():
                code = action() or 0
                sys.stdout.flush()
        except (
            KeyboardInterrupt,
            SystemExit,
        ) as error:  # Lightning turns the first into the second
            if isinstance(error.__context__, BrokenPipeError) and not interruption.has_come():
                return EXIT_BROKEN_PIPE  # rich ends the process when the reader of a table is gone
            return interruption.end()
        except Exception as error:
            # What fails because a signal ended a process of the group is no fault of its own.
            if interruption.has_come(wait=is_about_processes(error)):
                return interruption.end()
            if isinstance(error, BrokenPipeError) and _reader_is_gone():
                return EXIT_BROKEN_PIPE
            line = self._describe(error)
            if line is None:
                raise
            if not self.silent:
                say(f"error: {line}")
            return EXIT_BAD_INPUT
        return code

    def _set_up_logging(self, level: int) -> None:
        handler = LogLines(timestamps=self.timestamps, level=level)
        for name in self.packages:
            package = logging.getLogger(name)
            package.setLevel(level)
            package.handlers = [handler]
            package.propagate = False

    def _describe(self, error: Exception) -> str | None:
        """Return an error as one line, or None if it is a fault of the program."""
        if isinstance(error, ReidError):
            return one_line(error)
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            hint = f"; {self.file_hint}" if self.file_hint else ""
            return f"{where}{error.strerror or one_line(error)}{hint}"
        return self._what_ran_out(error)

    def _what_ran_out(self, error: Exception) -> str | None:
        """Say which resource ran out, or return None if the error is of another kind.

        PyTorch reports missing memory of the CPU, and of another process, only in the message.
        """
        text = str(error)
        # An error of torch can only be raised where torch is loaded; this module does not load it.
        torch, spawn = sys.modules.get("torch"), sys.modules.get("torch.multiprocessing.spawn")
        spawned = spawn is not None and isinstance(error, spawn.ProcessException)
        if not spawned and not isinstance(error, MemoryError | RuntimeError):
            return None
        if (
            isinstance(error, MemoryError)
            or (torch is not None and isinstance(error, torch.OutOfMemoryError))
            or "can't allocate memory" in text
            or (spawned and ("OutOfMemoryError" in text or "MemoryError" in text))
        ):
            return f"out of memory; {self.memory_hint}"
        if spawned and "No space left on device" in text:
            return "no space left on the device; make room, then the same command again"
        if spawn is not None and isinstance(error, spawn.ProcessExitedException):
            return (
                f"one of the processes that train together ended ({text}), which happens where "
                f"memory is small; {self.process_hint}"
            )
        if "unable to allocate shared memory" in text:  # in a worker's traceback
            return (
                "shared memory (/dev/shm) is full; give more of it (docker run --shm-size=2g), or "
                f"{self.worker_hint}"
            )
        if text.startswith("DataLoader worker"):
            return (
                "a process that loads images was killed, which happens where shared memory is "
                f"small; give more of it (docker run --shm-size=2g), or {self.worker_hint}"
            )
        return None


def log_level(options: argparse.Namespace | None) -> int:
    """Return the lowest level of log lines that options ask for."""
    if getattr(options, "quiet", False):
        return logging.WARNING
    return logging.getLevelNamesMapping()[getattr(options, "log_level", "info").upper()]


def is_about_processes(error: Exception) -> bool:
    """Return whether an error may be that another process has ended."""
    words = ("DataLoader worker", "process", "Broken pipe", "Connection reset")
    return isinstance(error, EOFError | ConnectionError) or any(w in str(error) for w in words)


def _reader_is_gone() -> bool:
    """Tell whether standard output is a pipe whose reader, such as ``head``, has ended.

    The remaining output is then discarded, so that Python does not report an error at its exit.
    """
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone

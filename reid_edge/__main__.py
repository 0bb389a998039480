"""The command line ``reid-edge``."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from rich.console import Console
from rich.logging import RichHandler

from reid_edge.cli import check, enrol, evaluate, identify, models, prepare, verify
from reid_edge.core.errors import ReidError
from reid_edge.core.io import allow_any_file_name
from reid_edge.data.paths import expand_home

COMMANDS: dict[str, ModuleType] = {
    "models": models,
    "prepare": prepare,
    "check": check,
    "evaluate": evaluate,
    "verify": verify,
    "enrol": enrol,
    "identify": identify,
}
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="reid-edge", description="Person re-identification: data sets and models."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.HELP, description=command.HELP)
        )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code: its own, 2 for bad input, 130 when interrupted."""
    allow_any_file_name()
    options = parse_arguments(arguments)
    _set_up_logging()
    try:
        _write_out_homes(options)
        code: int = COMMANDS[options.command].run(options)
    except ReidError as error:
        _say_error(str(error))
        return EXIT_BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say_error(f"{where}{error.strerror or error}")
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return EXIT_INTERRUPTED
    return code


def _write_out_homes(options: argparse.Namespace) -> None:
    """Write out ``~``, which a shell leaves as it is in ``--index=~/people``."""
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, expand_home(value))


def _say_error(message: str) -> None:
    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True).print(f"error: {line}", markup=False)


def _set_up_logging() -> None:
    handler = RichHandler(
        console=Console(file=sys.stderr), show_path=False, show_time=False, markup=False
    )
    package = logging.getLogger("reid_edge")
    package.setLevel(logging.INFO)
    package.handlers = [handler]
    package.propagate = False


if __name__ == "__main__":
    # Before PyTorch is imported: loading an int8 file would print a page on its own deprecation.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.exit(main(sys.argv[1:]))

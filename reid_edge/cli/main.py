"""The command ``reid-edge``; in a checkout also ``python -m reid_edge``."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import cast

from reid_edge import __version__
from reid_edge.cli import check, embed, enrol, evaluate, identify, models, prepare, verify
from reid_edge.cli.guard import Guard, Parser
from reid_edge.data.paths import expand_home
from reid_edge.training.launchers import is_first_here

COMMANDS: dict[str, ModuleType] = {
    "models": models,
    "prepare": prepare,
    "check": check,
    "evaluate": evaluate,
    "verify": verify,
    "embed": embed,
    "enrol": enrol,
    "identify": identify,
}
# Commands of packages that import this one: name -> (module with main(arguments, prog), help).
# They parse their own arguments.
OTHER_COMMANDS = {
    "run": ("pipeline.command", "run the stages that make a model small: train, prune, quantize"),
    "compress": (
        "pipeline.compress_command",
        "make a model small for a place, from its images without labels, in a given time",
    ),
    "export": (
        "pipeline.export_command",
        "write files of any model for other programs, each checked on images without labels",
    ),
    "doctor": (
        "pipeline.doctor_command",
        "find out where a file goes away from its model, and why",
    ),
    "benchmark": (
        "pipeline.benchmark_command",
        "time model files here, or pack them for a device and read its result",
    ),
    "compare": (
        "pipeline.compare_command",
        "show several runs side by side, as a table and as a page",
    ),
    "search": (
        "pipeline.search.search_command",
        "search the widths of a compact model under a limit of operations",
    ),
    "sweep": (
        "pipeline.sweep.sweep_command",
        "run a configuration several times with other settings, on one machine or many",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: without the program's name; none: those of this process.

    Returns:
        The exit code: the command's own, 2 for bad input, 130 when interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in OTHER_COMMANDS:
        name = arguments[0]
        module, _ = OTHER_COMMANDS[name]
        run = cast(Callable[[Sequence[str], str], int], import_module(module).main)
        return run(arguments[1:], f"reid-edge {name}")
    # Before PyTorch is imported: loading an int8 file would print a page on its own deprecation.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    options = parse_arguments(arguments)

    def run_command() -> int:
        for name, value in vars(options).items():
            if isinstance(value, Path):  # a shell does not expand ~ in --index=~/people
                setattr(options, name, expand_home(value))
        code: int = COMMANDS[options.command].run(options)
        return code

    # What fails on every process of a machine alike is shown once.
    return Guard(silent=not is_first_here()).run(run_command)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(prog="reid-edge", description="Person re-identification on edge devices.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in OTHER_COMMANDS.items():
        commands.add_parser(name, help=summary)
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.HELP, description=command.HELP)
        )
    return parser.parse_args(arguments)

"""The command line of ``run_pipeline.py``."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import torch
from rich.console import Console
from rich.logging import RichHandler
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from pipeline.config import Config
from pipeline.run_dir import RunDir
from pipeline.settings.stage_names import STAGES
from pipeline.settings_io import load_config
from reid_edge.core.errors import DataError, PipelineError, ReidError, one_line
from reid_edge.core.io import allow_any_file_name
from reid_edge.data.paths import expand_home

QUICKSTART = Path(__file__).resolve().parent.parent / "configs" / "quickstart.yaml"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # as a program ends that SIGPIPE killed
LOG_WIDTH = 160

logger = logging.getLogger("pipeline")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        prog="run_pipeline.py",
        description="Make a person re-identification model small and fast, step by step.",
        epilog="Without --config it runs configs/quickstart.yaml on images that it draws itself.",
    )
    parser.add_argument("--stages", help=f"comma-separated, in order: {','.join(STAGES)}")
    parser.add_argument("--config", type=written_path, help="YAML file with settings, see configs/")
    parser.add_argument("--run", type=written_path, help="the run's folder (default: runs/<name>)")
    parser.add_argument("--from", dest="restart", metavar="STAGE", help="run anew from this stage")
    parser.add_argument("--plan", action="store_true", help="show what would run and why")
    parser.add_argument("--report", action="store_true", help="show the tables of the run")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings")
    return parser.parse_intermixed_args(arguments)


def written_path(text: str) -> Path:
    """Return a path with ``~`` written out, which a shell leaves as it is in ``--run=~/x``."""
    try:
        return expand_home(Path(text))
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Parser(argparse.ArgumentParser):
    """Say what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        _say(f"error: {message}; see --help")
        sys.exit(EXIT_BAD_INPUT)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted."""
    options = parse_arguments(arguments)
    return run_guarded(lambda: _dispatch(options))


def run_guarded(action: Callable[[], None]) -> int:
    """Do what a command is for, and say what is wrong in one line; return the exit code."""
    allow_any_file_name()
    set_up_logging()
    try:
        action()
    except ReidError as error:
        _say(f"error: {one_line(error)}")
        return EXIT_BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or one_line(error)
        _say(f"error: {where}{reason}; make room or give rights there, then the same command again")
        return EXIT_BAD_INPUT
    except (MemoryError, RuntimeError, ProcessException) as error:
        line = _what_ran_out(error)
        if line is None:
            raise
        _say(f"error: {line}")
        return EXIT_BAD_INPUT
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        if isinstance(error.__context__, BrokenPipeError):
            return EXIT_BROKEN_PIPE  # what reads our tables, such as head, has seen enough
        _say("interrupted; the same command goes on from here")
        return EXIT_INTERRUPTED
    return 0


def _what_ran_out(error: MemoryError | RuntimeError | ProcessException) -> str | None:
    """Say what there is too little of, or return None if it is something else.

    On the CPU, and in another process, torch tells it by the words alone.
    """
    text = str(error)
    spawned = isinstance(error, ProcessException)
    if (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "can't allocate memory" in text
        or (spawned and ("OutOfMemoryError" in text or "MemoryError" in text))
    ):
        return (
            "out of memory; lower data.evaluation_batch, the stage's identities_per_batch, or its "
            "reconstruction_images where it cuts"
        )
    if spawned and "No space left on device" in text:
        return "no space left on the device; make room, then the same command again"
    if isinstance(error, ProcessExitedException):
        return (
            f"one of the processes that train together ended ({text}), as happens where memory is "
            "small; lower the stage's identities_per_batch or devices, then the same command again"
        )
    if text.startswith("DataLoader worker"):
        return (
            "a process that loads images was killed, as happens where shared memory is small; "
            "give more of it (docker run --shm-size=2g), or data.workers=0"
        )
    return None


def _say(line: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(line, markup=False)


def _dispatch(options: argparse.Namespace) -> None:
    if options.report:
        from pipeline.report.show import show_report

        show_report(_run_dir_for_report(options), options.overrides)
        return
    config, run = resolve(options)
    _check_restart(options.restart)
    from pipeline.report.show import finish_run, show_plan

    if options.plan:
        show_plan(config, run, restart_from=options.restart)
        return
    from pipeline.runner import run_stages

    run.create()
    with run.locked():
        run_stages(config, run, restart_from=options.restart)
        finish_run(config, run)


def resolve(options: argparse.Namespace) -> tuple[Config, RunDir]:
    """Find the configuration and the run's folder that the options mean.

    Raises:
        PipelineError: a setting is wrong.
    """
    path, stages = options.config, options.stages
    if path is None and options.run is not None and (options.run / "config.yaml").is_file():
        path = options.run / "config.yaml"
    if path is None and options.run is not None:
        raise PipelineError(f"{options.run}: no run there; give --config FILE to begin one")
    if path is None:
        path = QUICKSTART
        logger.info("no --config: taking configs/%s", path.name)
    config = load_config(path, options.overrides, stages)
    if config.data.root is None:
        logger.info(
            "no data.root: the images are synthetic pedestrians; for your own: "
            "--config configs/osnet_x0_5.yaml data.root=/path/to/Market-1501"
        )
    run = RunDir(options.run if options.run is not None else Path("runs") / config.name)
    return config, run


def _check_restart(stage: str | None) -> None:
    if stage is not None and stage not in STAGES:
        raise PipelineError(f"--from {stage}: unknown stage; stages are {', '.join(STAGES)}")


def _run_dir_for_report(options: argparse.Namespace) -> RunDir:
    if options.run is None:
        raise PipelineError("--report needs --run FOLDER, the run to report on")
    for name in ("config", "stages", "restart"):
        if getattr(options, name) is not None:
            flag = "from" if name == "restart" else name
            raise PipelineError(
                f"--{flag}: --report shows what the run has, with its own settings; leave it out"
            )
    run = RunDir(options.run)
    if not run.config_path.is_file():
        raise PipelineError(f"{options.run}: no run there (no config.yaml in it)")
    return run


def set_up_logging() -> None:
    """Send the packages' log lines to the terminal."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        console = Console(file=sys.stderr, width=max(console.width, LOG_WIDTH))
    handler = RichHandler(console=console, show_path=False, omit_repeated_times=False, markup=False)
    for name in ("pipeline", "reid_edge", "prune", "quantize"):
        package = logging.getLogger(name)
        package.setLevel(logging.INFO)
        package.handlers = [handler]
        package.propagate = False

"""``reid-edge sweep``: several runs with other settings, by one worker or by many."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.command import check_extra, run_guarded
from pipeline.shipped_configs import find_config
from reid_edge.cli.guard import Parser, path_argument

EXIT_FAILED = 1


def main(arguments: Sequence[str], prog: str = "reid-edge sweep") -> int:
    """Run the command; return its exit code: 0, 1 if a trial failed, 2 for bad input.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    parser = Parser(
        prog=prog,
        description="Run a configuration several times with other values of some settings, and "
        "compare the runs. The same command on another machine with the same folder takes the next "
        "trial, and takes over the trial of a worker that was killed.",
    )
    parser.add_argument(
        "file", type=path_argument, metavar="FILE", help="YAML file such as configs/sweep.yaml"
    )
    parser.add_argument(
        "--folder",
        type=path_argument,
        help="folder of the study and its runs, instead of the file's",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # else a message says that it is required
        metavar="key.path=value",
        help="settings of all trials",
    )
    options = parser.parse_intermixed_args(arguments)

    def command() -> int:
        check_extra(prog)
        file = find_config(options.file)  # before PyTorch is imported, which takes seconds
        from pipeline.settings_io import parse_overrides
        from pipeline.sweep.run_sweep import run_sweep
        from pipeline.sweep.sweep_settings import read_sweep

        sweep = read_sweep(file, parse_overrides(options.overrides))
        if options.folder is not None:
            sweep = sweep.model_copy(update={"folder": options.folder})
        return EXIT_FAILED if run_sweep(sweep) else 0

    return run_guarded(command)

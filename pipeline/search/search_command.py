"""The command line of ``python -m pipeline.search``."""

from collections.abc import Sequence

from pipeline.command import add_config_option, check_extra, resolve, run_guarded
from reid_edge.cli.guard import Parser, path_argument


def main(arguments: Sequence[str], prog: str = "python -m pipeline.search") -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    parser = Parser(
        prog=prog,
        description="Search the widths of a compact model under a limit of operations. Candidates "
        "are reconstructed, not trained, and scored by mAP on training identities that are held "
        "out. The result is search/plan.json in the run's folder. The same command resumes after "
        "an interruption, or continues with more search.trials.",
    )
    add_config_option(parser)
    parser.add_argument(
        "--run",
        type=path_argument,
        required=True,
        help="folder of a run with a finished stage train",
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings")
    parser.set_defaults(stages=None)
    parser.add_log_options()
    options = parser.parse_intermixed_args(arguments)

    def search() -> None:
        check_extra(prog)
        config, run = resolve(options)
        from pipeline.search.search_widths import search_widths

        search_widths(config, run)

    return run_guarded(search, options)

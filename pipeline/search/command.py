"""The command line of ``python -m pipeline.search``."""

from argparse import Namespace
from collections.abc import Sequence

from pipeline.command import add_config_option, check_extra, resolve, run_guarded
from reid_edge.cli.guard import Parser, path_argument


def main(arguments: Sequence[str], prog: str = "python -m pipeline.search") -> int:
    """Run the command; return its exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    options = _parse(arguments, prog)
    return run_guarded(lambda: _search(options, prog))


def _search(options: Namespace, prog: str) -> None:
    check_extra(prog)
    config, run = resolve(options)
    from pipeline.search.search_widths import search_widths

    search_widths(config, run)


def _parse(arguments: Sequence[str], prog: str) -> Namespace:
    parser = Parser(
        prog=prog,
        description="Search the widths of a compact model under a limit of operations, scored by "
        "mAP on held-back training identities after reconstruction, without training. Leaves "
        "search/plan.json in the run's folder. The same command again goes on, after an "
        "interruption or with more search.trials.",
    )
    add_config_option(parser)
    parser.add_argument(
        "--run", type=path_argument, required=True, help="a run whose stage train is done"
    )
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings")
    parser.set_defaults(stages=None)
    return parser.parse_intermixed_args(arguments)

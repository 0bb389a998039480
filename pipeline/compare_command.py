"""``reid-edge compare``: several runs side by side, as a table and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.command import check_extra
from pipeline.run_log import PACKAGES
from reid_edge.cli.guard import Guard, Parser, path_argument

PAGE = Path("comparison.html")
GUARD = Guard(packages=PACKAGES)


def main(arguments: Sequence[str], prog: str = "reid-edge compare") -> int:
    """Run the command; return its exit code: 0, or 2 for bad input.

    Args:
        arguments: without the program's name.
        prog: what the command is called.
    """
    parser = Parser(
        prog=prog,
        description="Show runs side by side: the settings that differ, mAP, size and latency by "
        "stage, and the accuracy of all files against their latency. Runs are only read.",
    )
    parser.add_argument(
        "runs", type=path_argument, nargs="+", metavar="RUN", help="folder of a run"
    )
    parser.add_argument(
        "--output", type=path_argument, metavar="FILE", default=PAGE,
        help=f"the page (default: {PAGE})",
    )  # fmt: skip
    options = parser.parse_args(arguments)

    def command() -> None:
        check_extra(prog)
        from pipeline.report.comparison import compare_runs, read_runs, write_comparison
        from reid_edge.core.tables import FittingTable, output_console

        comparison = compare_runs(read_runs(options.runs))
        write_comparison(options.output, comparison)
        console = output_console()
        title = f"{comparison.measure}, size of the file, latency"
        for heading, first, lines in (
            (title, "stage", comparison.stages),
            ("Settings that differ", "setting", comparison.settings),
        ):
            rows = [(line.name, *line.values) for line in lines]
            headings = [first, *comparison.names]
            if rows:
                console.print(FittingTable(heading, headings, rows, breaking=comparison.names))
        for line in (*comparison.notes, f"page: {options.output}"):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return GUARD.run(command)

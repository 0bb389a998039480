"""Time the layers of the C engine, by kind.

    python -m benchmarks.engine_layers export/model_c

For each of the engine's kernels that the processor has: the least processor time of 300 calls of
each layer, summed over the layers of a kind.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.latency import KERNELS
from pipeline.command import run_guarded
from quantize.c_engine.toolchain import FLAGS, find_compiler
from quantize.machine import machine_description
from reid_edge.core.errors import QuantizeError

SOURCE = Path(__file__).with_suffix(".c")


def main(folder: Path) -> None:
    """Build the program, run it with each set of kernels, print the table."""
    compiler = find_compiler()
    if compiler is None:
        raise QuantizeError("there is no C compiler here (cc, gcc or clang)")
    weights = (folder / "model.weights").read_bytes()
    times: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as made:
        program = Path(made) / "engine_layers"
        options = [f"-I{folder}", "-DREID_LAYER_DONE=layer_done", "-o", str(program)]
        subprocess.run([*compiler, *FLAGS, *options, str(SOURCE), "-lm"], check=True)
        for kernels in KERNELS:
            finished = subprocess.run(
                [str(program), kernels], input=weights, capture_output=True, check=False
            )
            if finished.returncode == 0:
                rows = (line.split("\t") for line in finished.stdout.decode().splitlines())
                times[kernels] = {name: float(value) / 1000 for name, value in rows}
    table = Table("microseconds", *times)
    for name in next(iter(times.values()), {}):
        table.add_row(name, *(f"{column[name]:.0f}" for column in times.values()))
    table.add_row("sum", *(f"{sum(column.values()):.0f}" for column in times.values()))
    console = Console(width=120)
    console.print(table)
    console.print(str(machine_description()), highlight=False)


def parse_folder() -> Path:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, help="that the exporter c wrote, model_c")
    folder: Path = parser.parse_args().folder
    return folder


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_folder())))

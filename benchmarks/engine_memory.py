"""Measure the peak memory of the C engine in a C program, beyond the program itself.

    python -m benchmarks.engine_memory export/model_c

The weights are mapped into memory and used in place. What is read of them and of the code of the
kernels counts too.
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.engine_layers import parse_folder
from pipeline.command import run_guarded
from quantize.c_engine.toolchain import FLAGS, find_compiler
from reid_edge.core.errors import QuantizeError

SOURCE = Path(__file__).with_suffix(".c")


def main(folder: Path) -> None:
    """Build the program, run it, and print what it says.

    Raises:
        QuantizeError: there is no C compiler, or the program fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise QuantizeError("there is no C compiler here (cc, gcc or clang)")
    with tempfile.TemporaryDirectory() as made:
        program = Path(made) / "engine_memory"
        sources = [str(SOURCE), str(folder.resolve() / "model.c")]
        options = [f"-I{folder.resolve()}", "-o", str(program)]
        subprocess.run([*compiler, *FLAGS, *options, *sources, "-lm"], check=True)
        finished = subprocess.run(
            [str(program)], cwd=folder, capture_output=True, text=True, check=False
        )
    if finished.returncode:
        raise QuantizeError(f"{folder}: the program fails with exit code {finished.returncode}")
    peak, weights = (int(number) / 1024 for number in finished.stdout.split())
    Console().print(f"peak {peak:.1f} MB, of which {weights:.1f} MB are weights", highlight=False)


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_folder())))

"""Count the ARM instructions that one image takes in model files, on an emulated machine.

    benchmarks/arm/prepare.sh && python -m benchmarks.arm.instructions x1_0.onnx x0_5_int8.onnx
    python -m benchmarks.arm.instructions --cpu max export/model_c

A folder is a C engine; it is compiled for the machine, and its images have the engine's own size.
Instructions are no time, but unlike a time under emulation they are the same on every machine. The
last of four calls counts: the first one also makes ready what all later ones use, and TorchScript
optimises its graph in the second.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
ARM = ROOT / ".arm"
CALLS = 4


def main() -> None:
    """Count for every file and print the table."""
    options = parse_options()
    if not (ARM / "ready").is_file():
        sys.exit("no emulated machine in .arm/: benchmarks/arm/prepare.sh makes it")
    table = Table(title=f"{options.height} x {options.width}, batch 1, {options.cpu}")
    table.add_column("file")
    table.add_column("instructions", justify="right")
    table.add_column("first file's, divided by it", justify="right")
    first: int | None = None
    for path in options.files:
        if path.is_dir():
            count = engine_instructions(path, options.cpu, options.kernels)
        else:
            count = instructions(path, options.height, options.width, options.cpu)
        first = first or count
        table.add_row(path.name, f"{count / 1e6:.1f} M", f"{first / count:.1f}")
    Console().print(table)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("files", type=Path, nargs="+", help="TorchScript, ONNX, model_c")
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--kernels", default="best", help="of the C engine, such as neon_dotprod")
    parser.add_argument("--cpu", default="neoverse-n1", help="as qemu-aarch64 -cpu help lists them")
    return parser.parse_args()


def instructions(path: Path, height: int, width: int, cpu: str) -> int:
    """Return the instructions of the last call of a model file on one image."""
    with tempfile.TemporaryDirectory() as folder:
        images, counts = Path(folder) / "images.npy", Path(folder) / "counts"
        generator = np.random.default_rng(0)
        np.save(images, generator.standard_normal((1, 3, height, width), dtype=np.float32))
        command = [
            *(ARM / "root/usr/bin/python3.11", ROOT / "benchmarks/arm/run_model.py"),
            *(path, images, Path(folder) / "embeddings.npy", CALLS),
        ]
        return count_last_call(path, command, counts, cpu)


def engine_instructions(path: Path, cpu: str, kernels: str) -> int:
    """Return the instructions of the last call of a C engine on one image of bytes."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "run_engine"
        sources = [path / "model.c", ROOT / "benchmarks/arm/run_engine.c"]
        compiler = [ARM / "cc", "-std=c11", "-O2", f"-I{path}", "-o", program]
        subprocess.run([str(part) for part in (*compiler, *sources, "-lm")], check=True)
        command = [program, CALLS, kernels]
        counts = Path(folder) / "counts"
        return count_last_call(path, command, counts, cpu, path / "model.weights")


def count_last_call(
    path: Path, command: Sequence[object], counts: Path, cpu: str, given: Path | None = None
) -> int:
    """Run a program on the emulated machine; return the instructions of its last call.

    Args:
        path: what is counted, for messages.
        command: the program, which calls getppid() before and behind each call.
        counts: where the counts are written.
        cpu: as ``qemu-aarch64 -cpu help`` lists them.
        given: standard input of the program.
    """
    libraries = ARM / "host/usr/lib/x86_64-linux-gnu"
    emulator = [
        *(ARM / "host/usr/bin/qemu-aarch64", "-cpu", cpu),
        *("-plugin", ARM / "count_instructions.so", "-L", ARM / "root"),
        *("-E", f"PYTHONPATH={ARM / 'site'}", "-E", "OMP_NUM_THREADS=1"),
    ]
    own = {"INSTRUCTION_COUNT_FILE": str(counts), "LD_LIBRARY_PATH": str(libraries)}
    finished = subprocess.run(
        [str(part) for part in (*emulator, *command)],
        env=os.environ | own,
        input=None if given is None else given.read_bytes(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if finished.returncode != 0:
        sys.exit(f"{path}: fails on the emulated machine: {finished.stderr[-500:].decode()}")
    *_, start, end = (int(line) for line in counts.read_text().split())
    return end - start


if __name__ == "__main__":
    main()

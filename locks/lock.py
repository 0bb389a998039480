"""Write the lock files in this folder: ``make lock``.

uv finds for every file of requirements one set of versions that fits Linux on x86-64 and on 64-bit
ARM with Python 3.11 to 3.13. Versions that are locked stay where they still fit; ``--upgrade``
takes the newest ones. A lock file has names, versions, hashes and markers. It has no index: pip
takes the files from the index that it is set up with, and the hashes say which files these may be.

    python locks/lock.py UV [--upgrade]
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import requires
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

LOCKS = Path(__file__).resolve().parent
ROOT = LOCKS.parent
OLDEST = "3.11"
NEWER = ("3.12", "3.13")
GLIBC = "2_28"
BASE = "requirements.txt"
TORCH = "torch.txt"
NNI = "nni.txt"
# Their requirements come on top of those of requirements.txt; their locks hold only what is new.
ADDITIONS = (
    "requirements-dev.txt", "requirements-docs.txt", "requirements-executorch.txt",
    "requirements-openvino.txt", "requirements-tracking.txt", "requirements-ncnn.txt",
    "requirements-mnn.txt", "requirements-litert.txt", "requirements-sweep.txt",
)  # fmt: skip
TOOLS = "requirements-tools.txt"
NO_WHEEL = ("antlr4-python3-runtime",)  # one Python file that ExecuTorch's requirements need
OLDEST_OF = {"requirements-docs.txt": "3.11.5"}  # pymdown-extensions needs it
GLIBC_OF = {"requirements-openvino.txt": "2_35"}  # its wheel for ARM needs it

Packages = dict[str, str]  # a package's lines in a lock file, by "name==version ; marker"


def main() -> int:
    """Write all lock files; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the lock files.")
    parser.add_argument("uv", help="the program uv")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    options = parser.parse_args()
    try:
        write_all(options.uv, upgrade=options.upgrade)
    except (subprocess.CalledProcessError, ValueError) as error:
        sys.stderr.write(f"error: {error}; no lock file was written after this\n")
        return 2
    return 0


def write_all(uv: str, *, upgrade: bool) -> None:
    """Solve for all files of requirements, check that there are wheels, write the locks.

    Raises:
        subprocess.CalledProcessError: there is no solution, or no wheel for one of the platforms.
        ValueError: a lock would name an index.
    """
    former = "" if upgrade else "\n".join(path.read_text() for path in sorted(LOCKS.glob("*.txt")))
    pinned = requirements(BASE)
    nni = [line for line in pinned if line.startswith("nni==")]
    # NNI's wheel is for x86-64 alone. Its Python part runs on ARM too (install_nni.py), so that
    # the lock has for both what NNI requires.
    required = [line for line in requires("nni") or () if "extra ==" not in line]
    base = [line for line in pinned if line not in nni] + required
    solved = solve(uv, base, former)
    torch = {name: lines for name, lines in solved.items() if is_torch(name)}
    locks = {
        TORCH: torch,
        BASE: {name: lines for name, lines in solved.items() if name not in torch},
        NNI: solve(uv, [line.partition(";")[0] for line in nni], former, "--no-deps"),
    }
    for file in ADDITIONS:
        lines, oldest = [*base, *requirements(file)], OLDEST_OF.get(file, OLDEST)
        both = solve(uv, lines, former, constraints=solved, oldest=oldest)
        locks[file] = {name: lines for name, lines in both.items() if name not in solved}
    locks[TOOLS] = solve(uv, requirements(TOOLS), former)
    for file, packages in locks.items():
        text = f"# Made by make lock; do not edit.\n{''.join(packages.values())}"
        if "://" in text or "index-url" in text:
            raise ValueError(f"{file}: would name an index")
        (LOCKS / file).write_text(text)
        if file != NNI:
            check_wheels(uv, LOCKS / file)
        sys.stdout.write(f"{file}: {len(packages)} packages\n")


def requirements(file: str) -> list[str]:
    """Return the requirements in a file, without comments and references to other files."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [line for line in lines if line and not line.startswith("-")]


def is_torch(package: str) -> bool:
    """Tell whether a package is PyTorch, or one of the CUDA libraries that only PyTorch needs."""
    name = package.partition("==")[0]
    cuda = name.startswith(("nvidia-", "cuda-")) and name != "nvidia-ml-py"
    return cuda or name in ("torch", "torchvision", "triton")


def solve(
    uv: str,
    lines: Iterable[str],
    former: str,
    *options: str,
    constraints: Iterable[str] = (),
    oldest: str = OLDEST,
) -> Packages:
    """Return the packages that requirements need, with hashes.

    Args:
        uv: the program.
        lines: requirements.
        former: lock files whose versions are kept where they fit.
        options: of ``uv pip compile``.
        constraints: packages whose versions are fixed.
        oldest: the oldest Python that they are installed on.
    """
    with TemporaryDirectory() as folder:
        given, fixed, made = (Path(folder) / name for name in ("in.txt", "fixed.txt", "out.txt"))
        given.write_text("\n".join(lines))
        fixed.write_text("\n".join(constraints))
        made.write_text(former)
        run(
            uv, "pip", "compile", "--universal", "--python-version", oldest,
            "--generate-hashes", "--no-header", "--no-annotate", *options,
            "--constraints", str(fixed), "--output-file", str(made), str(given),
        )  # fmt: skip
        blocks = re.split(r"^(?=\S)", made.read_text(), flags=re.MULTILINE)
    return {block.partition("\\")[0].strip(): block for block in blocks if block.strip()}


def check_wheels(uv: str, lock: Path) -> None:
    """Check that every platform and Python has a wheel of each package but ``NO_WHEEL``."""
    wheels = ["--only-binary", ":all:", *(f"--no-binary={name}" for name in NO_WHEEL)]
    pythons = (OLDEST_OF.get(lock.name, OLDEST), *NEWER)
    glibc = GLIBC_OF.get(lock.name, GLIBC)
    for python, machine in product(pythons, ("x86_64", "aarch64")):
        with TemporaryDirectory() as folder:
            run(
                uv, "pip", "install", "--dry-run", "--no-deps", *wheels, "--require-hashes",
                "--target", folder, "--python-version", python,
                "--python-platform", f"{machine}-manylinux_{glibc}", "--requirements", str(lock),
            )  # fmt: skip


def run(*command: str) -> None:
    """Run uv without the settings of this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    uv, *rest = command
    subprocess.run([uv, "--quiet", "--no-config", *rest], check=True, env=environment)


if __name__ == "__main__":
    sys.exit(main())

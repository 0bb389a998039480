"""Install NNI without its Node: ``python locks/install_nni.py``, in the environment of that Python.

NNI's wheel has a Python part, which prunes, and ``nni_node``: Node and 290 npm packages, which run
the search of widths alone (185 MB). pip cannot leave out a part of a wheel. This program takes the
wheel that ``nni.txt`` names, checks its hash, and installs it without ``nni_node``. What is left is
Python alone, so that it also runs on 64-bit ARM, which NNI has no wheel for.

The search needs the whole wheel (x86-64):
    python -m pip install --force-reinstall --no-deps --require-hashes -r locks/nni.txt
"""

import csv
import io
import subprocess
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZIP_DEFLATED, ZipFile

LOCK = Path(__file__).with_name("nni.txt")
LEFT_OUT = "nni_node/"
PLATFORM = "manylinux1_x86_64"


def main() -> int:
    """Download, leave out Node, install; return pip's exit code if it fails."""
    with TemporaryDirectory() as folder:
        try:
            pip(
                "download", "--require-hashes", "--no-deps", "--only-binary=:all:",
                f"--platform={PLATFORM}", f"--dest={folder}", f"--requirement={LOCK}",
            )  # fmt: skip
            (wheel,) = Path(folder).glob("*.whl")
            pip("install", "--no-deps", "--no-index", str(without_node(wheel)))
        except subprocess.CalledProcessError as error:
            return error.returncode
    return 0


def without_node(wheel: Path) -> Path:
    """Write a wheel for every platform beside a wheel of NNI, without ``nni_node``; return it."""
    name = wheel.name.replace(f"-{PLATFORM}.whl", "-any.whl")
    with ZipFile(wheel) as given, ZipFile(wheel.with_name(name), "w", ZIP_DEFLATED) as made:
        rows = []
        for entry in given.infolist():
            if entry.filename.startswith(LEFT_OUT) or entry.filename.endswith("/RECORD"):
                continue
            content = given.read(entry)
            if entry.filename.endswith(".dist-info/WHEEL"):
                content = content.replace(f"-{PLATFORM}".encode(), b"-any")
            made.writestr(entry, content)
            digest = urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
            rows.append((entry.filename, f"sha256={digest}", len(content)))
        (record,) = (name for name in given.namelist() if name.endswith(".dist-info/RECORD"))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*rows, (record, "", "")])
        made.writestr(record, text.getvalue())
    return wheel.with_name(name)


def pip(*arguments: str) -> None:
    """Run the pip of this Python."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    sys.exit(main())

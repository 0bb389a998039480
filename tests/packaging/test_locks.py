"""The lock files hold what the requirements pin and all that it requires, with hashes only."""

import base64
import csv
import hashlib
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from locks.install_nni import without_node

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "locks"
# A requirement that is pinned by file is locked in these.
LOCKED_IN = {
    "requirements.txt": ["torch.txt", "requirements.txt", "nni.txt"],
    "requirements-tools.txt": ["requirements-tools.txt"],
} | {
    f"requirements-{extra}.txt": ["torch.txt", "requirements.txt", f"requirements-{extra}.txt"]
    for extra in (
        "dev",
        "docs",
        "executorch",
        "openvino",
        "tracking",
        "sweep",
        "ncnn",
        "mnn",
        "litert",
    )
}
ENTRY = re.compile(
    r"^[a-z0-9.-]+==[a-z0-9.]+(?: ; [a-z0-9_ .<>=!'()]+)? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n",
    re.MULTILINE | re.IGNORECASE,
)


def entries(lock: str) -> list[Requirement]:
    """Return the packages of a lock file, with their markers."""
    text = (LOCKS / lock).read_text()
    return [Requirement(entry.partition("\\")[0]) for entry in ENTRY.findall(text)]


def here(locks: list[str]) -> dict[str, str]:
    """Return the versions that lock files give this machine and Python, by package."""
    found = [one for lock in locks for one in entries(lock)]
    return {
        canonicalize_name(one.name): str(one.specifier).removeprefix("==")
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


def active(lines: list[str]) -> Iterator[Requirement]:
    """Yield the requirements that apply to this machine and Python, without extras."""
    for one in map(Requirement, lines):
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            yield one


def test_every_file_of_requirements_has_a_lock_and_every_lock_is_one_of_them() -> None:
    assert sorted(path.name for path in ROOT.glob("requirements*.txt")) == sorted(LOCKED_IN)
    used = {lock for locks in LOCKED_IN.values() for lock in locks}
    assert {path.name for path in LOCKS.glob("*.txt")} == used


@pytest.mark.parametrize("file", sorted(LOCKED_IN))
def test_what_is_pinned_is_locked(file: str) -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    pinned = [Requirement(line) for line in lines if line and not line.startswith("-r")]
    assert pinned
    locked = here(LOCKED_IN[file])
    stale = [
        f"{one}: locked is {locked.get(canonicalize_name(one.name))}; run make lock"
        for one in pinned
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))
    ]
    assert stale == []


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_a_lock_has_names_versions_hashes_and_markers_alone(path: Path) -> None:
    text = path.read_text()
    assert ENTRY.findall(text)
    rest = ENTRY.sub("", text)
    assert rest == "# Made by make lock; do not edit.\n"


@pytest.mark.parametrize("file", sorted(set(LOCKED_IN) - {"requirements-tools.txt"}))
def test_what_locked_packages_require_is_locked(file: str) -> None:
    """Look at those that are installed here: all of requirements.txt and requirements-dev.txt."""
    locked = here(LOCKED_IN["requirements.txt"] + LOCKED_IN[file])
    checked = 0
    for name in locked:
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        checked += 1
        for one in active(required):
            assert one.specifier.contains(locked.get(canonicalize_name(one.name), "0")), (
                name,
                str(one),
            )
    assert checked > 70


def installs(*arguments: str) -> list[str]:
    """Return the commands of make that install something, without running them."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *arguments, ".venv/installed-dev",
         ".venv/installed-docs", ".venv/installed-tools"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if "pip install" in line]


def test_make_installs_by_hash_alone() -> None:
    found = installs()
    used = set(re.findall(r"-r locks/(\S+)", "\n".join(found)))
    assert used == {
        "torch.txt", "requirements.txt", "nni.txt", "requirements-dev.txt",
        "requirements-docs.txt", "requirements-tools.txt", "requirements-tracking.txt",
    }  # fmt: skip
    assert [line for line in found if " --require-hashes " not in line] == []


def test_make_without_cuda_takes_the_pinned_pytorch_from_its_own_index() -> None:
    (line,) = [line for line in installs("CPU=1") if " --require-hashes " not in line]
    versions = here(["torch.txt"])
    wanted = f"torch=={versions['torch']} torchvision=={versions['torchvision']}"
    assert line.endswith(f"--no-deps --index-url https://download.pytorch.org/whl/cpu {wanted}")
    assert not any("locks/torch.txt" in line for line in installs("CPU=1"))


def test_nni_without_node_is_a_sound_wheel_for_every_machine(tmp_path: Path) -> None:
    given = tmp_path / "nni-3.0-py3-none-manylinux1_x86_64.whl"
    contents = {
        "nni/__init__.py": b"version = 3\n",
        "nni_node/node": b"\x7fELF",
        "nni_node/node_modules/a,b.js": b"",
        "nni-3.0.dist-info/WHEEL": b"Root-Is-Purelib: true\nTag: py3-none-manylinux1_x86_64\n",
        "nni-3.0.dist-info/RECORD": b"nni_node/node,sha256=x,4\n",
    }
    with ZipFile(given, "w") as wheel:
        for name, content in contents.items():
            wheel.writestr(name, content)
    made = without_node(given)
    (tag,) = parse_wheel_filename(made.name)[3]
    assert str(tag) == "py3-none-any"
    with ZipFile(made) as wheel:
        assert wheel.read("nni-3.0.dist-info/WHEEL").endswith(b"Tag: py3-none-any\n")
        record = wheel.read("nni-3.0.dist-info/RECORD").decode()
        rows = {name: (digest, size) for name, digest, size in csv.reader(record.splitlines())}
        assert set(rows) == set(wheel.namelist()) == {n for n in contents if "node" not in n}
        assert rows.pop("nni-3.0.dist-info/RECORD") == ("", "")
        for name, (digest, size) in rows.items():
            content = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            assert digest == f"sha256={expected.decode().rstrip('=')}"
            assert int(size) == len(content)

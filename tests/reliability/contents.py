"""What a folder holds, without what differs between two runs that are the same."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

# Wall times, and whether a stage was resumed, differ; everything else is a function of settings.
TIMES = {"seconds", "resumed", "latency", "measured"}
# The lock and its owner's process number; tables with latencies, which are measured; the log.
NOT_COMPARED = {
    "lock",
    "lock.owner",
    "benchmark.json",
    "latency.json",
    "report.json",
    "report.html",
    "run.log",
}


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder by its path, of JSON without wall times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            skipped = path.name in NOT_COMPARED or name == "benchmark/stage.json"
            found[name] = "" if skipped else _digest(path)
    return found


def compare(expected: dict[str, str], found: dict[str, str]) -> tuple[list[str], list[str]]:
    """Return the files that differ or are missing, and those that should not be there."""
    differ = [name for name, digest in expected.items() if found.get(name) != digest]
    return differ, [name for name in found if name not in expected]


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".json":
        with suppress(ValueError):  # a damaged file counts as it is
            content = json.dumps(_without_times(json.loads(content)), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value

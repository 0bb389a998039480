"""What a stage depends on, as a hash, and what changed when it differs."""

import json
import platform
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any

LIBRARIES = (
    "torch", "torchvision", "nni", "lightning", "pytorch-metric-learning", "onnx", "onnxruntime",
)  # fmt: skip


def fingerprint(settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the hash of a stage's settings and of the hashes of its inputs."""
    text = json.dumps({"settings": settings, "inputs": inputs}, sort_keys=True)
    return sha256(text.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def describe_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Say which settings differ, as ``key: old -> new``."""
    changes = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += describe_changes(old, new, f"{prefix}{key}.")
        else:
            changes.append(f"{prefix}{key}: {_short(old)} -> {_short(new)}")
    return changes


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

"""What a process holds in memory, as Linux tells it."""

import os
from pathlib import Path
from typing import Any, Literal

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"  # see proc_pid_clear_refs(5)


def forget_peak() -> None:
    """Let this process's peak begin at what is held now."""
    if os.access(_CLEAR, os.W_OK):
        _CLEAR.write_text(_CLEAR_PEAK)


def memory(field: Literal["VmRSS", "VmHWM"]) -> int | None:
    """Return what this process holds now (``VmRSS``) or held at its peak (``VmHWM``), in bytes.

    Not ``ru_maxrss``: that is at least what the process held that started this one.

    Returns:
        None where the system does not tell (it is Linux that does).
    """
    if not _STATUS.is_file():
        return None
    fields: dict[str, Any] = dict(
        line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line
    )
    return int(fields[field].split()[0]) * 1024 if field in fields else None

"""The machine that a latency is measured on, and the memory of a process."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from reid_edge.core.int8_engine import supported_engines

# The instructions that int8 kernels are made of.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
_CPU_INFO = Path("/proc/cpuinfo")


def machine_description() -> dict[str, Any]:
    """Return the processor, those of its abilities that matter to int8, and what runs on it."""
    import torch  # takes seconds and memory; the functions below need none of it

    cpu_info = _cpu_info()
    flags = (cpu_info.get("flags") or cpu_info.get("Features") or "").split()
    return {
        "cpu": cpu_info.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "onnxruntime": _version("onnxruntime"),
        "openvino": _version("openvino"),
        "executorch": _version("executorch"),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "engine": torch.backends.quantized.engine,
        "supported_engines": list(supported_engines()),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_info() -> dict[str, str]:
    """Return the fields of the first processor; empty where the system does not tell."""
    if not _CPU_INFO.is_file():
        return {}
    first, _, _ = _CPU_INFO.read_text().partition("\n\n")
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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

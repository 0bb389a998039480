"""Describe the machine, and measure the memory of a process."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from quantize.measurements import Machine
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


def machine_description() -> Machine:
    """Return the processor, its int8 instructions, and the versions of the runtimes."""
    import torch  # takes seconds and memory; the functions below need none of it

    cpu_info = _cpu_info()
    flags = (cpu_info.get("flags") or cpu_info.get("Features") or "").split()
    return Machine(
        cpu=processor_name(),
        architecture=platform.machine(),
        flags=tuple(flag for flag in _FLAGS if flag in flags),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        onnxruntime=_version("onnxruntime"),
        openvino=_version("openvino"),
        executorch=_version("executorch"),
        torch_capability=torch.backends.cpu.get_cpu_capability(),
        engine=torch.backends.quantized.engine,
        supported_engines=tuple(supported_engines()),
        ncnn=_version("ncnn"),
        mnn=_version("MNN"),
        litert=_version("ai-edge-litert"),
    )


def processor_name() -> str:
    """Return what the processor is called."""
    return _cpu_info().get("model name") or platform.processor() or platform.machine()


def _cpu_info() -> dict[str, str]:
    """Return the fields of the first processor; none but on Linux."""
    if not _CPU_INFO.is_file():
        return {}
    first, _, _ = _CPU_INFO.read_text().partition("\n\n")
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"  # see proc_pid_clear_refs(5)


def forget_peak() -> None:
    """Reset this process's peak memory to its present memory."""
    if os.access(_CLEAR, os.W_OK):
        _CLEAR.write_text(_CLEAR_PEAK)


def memory(field: Literal["VmRSS", "VmHWM"]) -> int | None:
    """Return the present (``VmRSS``) or peak (``VmHWM``) memory of this process in bytes.

    ``ru_maxrss`` is not used, because it includes the memory of the parent process.

    Returns:
        None if the system does not report it (Linux does).
    """
    if not _STATUS.is_file():
        return None
    fields: dict[str, Any] = dict(
        line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line
    )
    return int(fields[field].split()[0]) * 1024 if field in fields else None

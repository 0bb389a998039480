"""Where freed memory stays while PyTorch runs a model."""

import ctypes
import json
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from reid_edge.core import memory
from reid_edge.core.memory import freed_memory_kept

MIB = 1 << 20
# Prints page faults of an allocation before, within and after, and what the process has afterwards.
PROGRAM = """
import json, resource
from reid_edge.core.memory import freed_memory_kept, keep_freed_memory

def faults(mebibytes=96):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (mebibytes << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

faults()
start = resident()
found = {"before": faults()}
with freed_memory_kept():
    faults()
    found["within"] = faults()
    with freed_memory_kept():
        pass
    found["after a block within"] = faults()
    found["kept"] = resident() - start
found["given back"] = resident() - start
found["after"] = faults()
faults(4)
found["smaller, after"] = faults(4)
for call in range(2):
    with freed_memory_kept():
        found["short call"] = faults(8)
keep_freed_memory()
with freed_memory_kept():
    faults()
found["for good"] = faults()
print(json.dumps(found))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_memory_is_kept_within_and_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    if found["before"] < 1000:
        pytest.skip("pages are so large here that they say nothing")
    assert found["within"] < found["before"] / 2
    for still in ("after a block within", "for good"):
        assert found[still] < found["before"] / 2
    assert found["kept"] >= 64 * MIB
    assert found["given back"] < 16 * MIB
    assert found["after"] > found["before"] / 2
    # glibc keeps blocks that are not that large by itself, after some; it must still do so.
    assert found["smaller, after"] < found["before"] / 64
    # The second of two short calls finds the memory of the first.
    assert found["short call"] < found["before"] / 64


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    # It has no attribute at all, so any call of it would fail.
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    with memory.freed_memory_kept():
        pass


def test_an_error_within_is_not_swallowed() -> None:
    @freed_memory_kept()
    def fail() -> None:
        raise ValueError("the batch is damaged")

    with pytest.raises(ValueError, match="the batch is damaged"):
        fail()

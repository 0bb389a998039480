"""What a process holds is its own, and a peak can be reset."""

import subprocess
import sys

import pytest
import torch

from quantize.machine import forget_peak, memory

MEBIBYTE = 2**20
pytestmark = pytest.mark.skipif(memory("VmHWM") is None, reason="the system does not tell")


def peak() -> int:
    found = memory("VmHWM")
    assert found is not None
    return found


def hold_and_let_go(mebibytes: int) -> None:
    torch.ones(mebibytes * MEBIBYTE, dtype=torch.uint8)


def test_a_peak_that_is_forgotten() -> None:
    forget_peak()
    before = memory("VmRSS")
    assert before is not None
    hold_and_let_go(256)
    assert 250 * MEBIBYTE < peak() - before < 300 * MEBIBYTE
    forget_peak()
    assert peak() - before < 50 * MEBIBYTE


def test_a_process_that_is_started_has_a_peak_of_its_own() -> None:
    hold_and_let_go(256)
    tell = "from quantize.machine import memory; print(memory('VmHWM'))"
    done = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * MEBIBYTE

"""The ranking benchmark's implementations agree, and their memory is their own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.ranking import (
    MEBIBYTE,
    run_process,
    synthetic_sets,
    table_rows,
    with_numpy_argsort,
    with_reid_metrics,
)

pytestmark = pytest.mark.medium


def test_implementations_agree() -> None:
    arguments = [torch.from_numpy(array) for array in synthetic_sets(60, 300, 8).values()]
    ours, plain = with_reid_metrics(arguments), with_numpy_argsort(arguments)
    assert ours == pytest.approx(plain, rel=1e-4)
    assert 0.1 < ours[0] < 0.95  # neither hopeless nor solved


def test_a_process_counts_its_own_memory_and_one_that_fails_says_why(tmp_path: Path) -> None:
    data = tmp_path / "sets.npz"
    np.savez(data, **synthetic_sets(1000, 8000, 64))  # type: ignore[arg-type]
    torch.ones(1024 * MEBIBYTE, dtype=torch.uint8)  # more than the process will hold
    run = run_process("numpy argsort", data, 1)
    distances = 1000 * 8000 * 4 / MEBIBYTE
    assert distances < run["mebibytes"] < 10 * distances
    data.write_bytes(data.read_bytes()[:100])
    ((name, reason),) = table_rows({"broken": [run, run_process("numpy argsort", data, 1)]})
    assert name == "broken"
    assert "BadZipFile" in reason

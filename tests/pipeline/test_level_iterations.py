"""Memory and open files stay level over many prune iterations."""

import gc
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from pipeline.command import main
from pipeline.stages import prune_iteration

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_networks")]

ITERATIONS = 20
# The first ones load libraries and fill caches.
WARM_UP = 5
# What is freed comes back late: 60 MB more or less are no leak.
BYTES = 100 << 20
CONFIG = """
name: level
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: small_net, embedding_dim: 32}}
train: {{epochs: 0}}
prune:
  target: small_net_x0_5
  iterations: 20
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
latency: {{rounds: 2}}
"""


@pytest.mark.parametrize("leak", [False, True])
def test_many_iterations(
    tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leak: bool
) -> None:
    found: list[tuple[int, int]] = []
    kept: list[Tensor] = []
    run_iteration, process = prune_iteration.run_iteration, psutil.Process()

    def measured(*arguments: Any, **options: Any) -> Any:
        result = run_iteration(*arguments, **options)
        if leak:
            kept.append(torch.ones(BYTES // 20))  # 20 MB
        gc.collect()
        found.append((process.memory_info().rss, process.num_fds()))
        return result

    monkeypatch.setattr("pipeline.stages.cutting.run_iteration", measured)
    (tmp_path / "c.yaml").write_text(CONFIG.format(root=tiny_market))
    arguments = ["--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]
    assert main([*arguments, "--stages", "train,prune"]) == 0
    assert len(found) == ITERATIONS
    (memory, files), (last_memory, last_files) = found[WARM_UP - 1], found[-1]
    assert last_files <= files
    assert (last_memory - memory > BYTES) is leak

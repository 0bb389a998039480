"""A run that takes seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.networks import small_networks
from tests.pipeline.whole_run import make_run

TINY = """
name: tiny
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: short_osnet_x0_5, embedding_dim: 32}}
train: &training
  epochs: 2
  learning_rate: 1.0e-3
  identities_per_batch: 4
  images_per_identity: 3
prune:
  target: short_osnet_x0_25
  iterations: 2
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{<<: *training}}
finetune: {{<<: *training}}
quantize: {{calibration_images: 8, observer: minmax}}
latency: {{rounds: 2}}
"""


@pytest.fixture
def tiny_config(short_networks: None, tiny_market: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY.format(root=tiny_market))
    return path


@pytest.fixture
def command(
    tiny_config: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run ``run_pipeline.py`` in this process; return exit code, output and error output."""
    from pipeline.command import main

    def run(*arguments: str, config: bool = True) -> tuple[int, str, str]:
        given = ["--config", str(tiny_config)] if config else []
        code = main([*given, *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def whole_run(tiny_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with two cuts, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("whole")
    with small_networks():
        return make_run(folder, tiny_market, "short_osnet_x0_5", "short_osnet_x0_25", iterations=2)

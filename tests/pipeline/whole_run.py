"""A tiny run from training to int8, which several files of tests look at."""

from pathlib import Path

from pipeline.command import main

NAMES = ("train", "prune", "finetune", "quantize")
CONFIG = """
name: whole
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: {architecture}, embedding_dim: 32}}
train: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
prune:
  target: {target}
  iterations: {iterations}
  reconstruction_images: 16
  recalibration_images: 16
  tuning: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
finetune: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
quantize: {{calibration_images: 8, observer: minmax}}
latency: {{rounds: 2}}
"""


def make_run(folder: Path, images: Path, architecture: str, target: str, iterations: int) -> Path:
    """Run all stages; return the run's folder, beside which its configuration is."""
    (folder / "c.yaml").write_text(
        CONFIG.format(root=images, architecture=architecture, target=target, iterations=iterations)
    )
    arguments = ["--config", str(folder / "c.yaml"), "--run", str(folder / "run")]
    assert main([*arguments, "--stages", ",".join(NAMES)]) == 0
    return folder / "run"

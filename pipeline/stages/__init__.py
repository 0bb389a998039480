"""One file a stage: its declaration, and the glue between the run's folder and the packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_edge.core.errors import PipelineError
from reid_edge.core.registry import Registry

if TYPE_CHECKING:
    from pipeline.stage import AnyStage, Stages

# In their order.
STAGES: Registry[AnyStage] = Registry(
    "stage",
    "reid_edge.stages",
    {
        "train": "pipeline.stages.train:TRAIN",
        "adapt": "pipeline.stages.adapt:ADAPT",
        "transfer": "pipeline.stages.transfer:TRANSFER",
        "prune": "pipeline.stages.prune:PRUNE",
        "finetune": "pipeline.stages.finetune:FINETUNE",
        "resize": "pipeline.stages.resize:RESIZE",
        "quantize": "pipeline.stages.quantize:QUANTIZE",
        "export": "pipeline.stages.export:EXPORT",
        "benchmark": "pipeline.stages.benchmark:BENCHMARK",
    },
    error=PipelineError,
)


def default_stages() -> Stages:
    """Return the registered stages, in their order."""
    from pipeline.stage import Stages  # --help needs the names alone

    return Stages(stage for _, stage in STAGES.items())

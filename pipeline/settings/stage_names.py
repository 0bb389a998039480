"""The stages, in their order."""

from typing import Literal, get_args

StageName = Literal[
    "train", "transfer", "prune", "finetune", "resize", "quantize", "export", "benchmark"
]  # fmt: skip
STAGES: tuple[StageName, ...] = get_args(StageName)
DEFAULT_STAGES: tuple[StageName, ...] = ("train", "prune", "finetune", "quantize")

"""Stage ``transfer``: put the most important channels into the target at once, then train."""

from pipeline.settings.cut_sections import TransferStage
from pipeline.stage import Stage
from pipeline.stages.cut_stage import cut_stage

TRANSFER: Stage[TransferStage] = cut_stage(
    "transfer",
    "put the most important channels into a narrower architecture at once, then train",
    TransferStage,
)

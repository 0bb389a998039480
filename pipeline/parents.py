"""Which stage's model a stage starts from."""

from pipeline.config import Config
from pipeline.dependencies import PARENT_INPUT
from pipeline.run_dir import CHECKPOINT, RunDir
from pipeline.settings.stage_names import STAGES, StageName
from pipeline.widths import CUTTING_STAGES, cutting_stage
from reid_edge.core.errors import PipelineError

# What the other stages leave is no float model to go on from.
LEAVES_CHECKPOINT = ("train", "transfer", "prune", "finetune", "resize")


def parent_of(stage: str, config: Config, run: RunDir) -> str | None:
    """Return the stage whose model a stage starts from.

    That is the latest requested stage before it that leaves a float checkpoint; for the first
    requested one, and for one that was not requested, the latest such stage that the run has
    finished or will have. Of transfer and prune, which exclude each other, the one counts that is
    requested, or that the run used last. Pruning never starts from what transfer made, which is at
    its target.

    Raises:
        PipelineError: there is none, and the stage needs one.
    """
    earlier = [name for name in STAGES[: STAGES.index(stage)] if name in LEAVES_CHECKPOINT]
    if stage == "prune":
        earlier.remove("transfer")
    if not earlier:
        return None
    requested = [name for name in earlier if name in config.stages]
    finished = [name for name in earlier if run.record(name) is not None]
    if {"transfer", "prune"} <= set(finished):
        used = cutting_stage(config) or latest_cut(run)
        finished.remove("prune" if used == "transfer" else "transfer")
    candidates = requested if stage in config.stages else []
    candidates = candidates or [name for name in earlier if name in {*requested, *finished}]
    if not candidates:
        raise PipelineError(
            f"{stage} needs a model, and {run.path} has none yet: put train before it in --stages "
            "(train.epochs=0 with train.pretrained=FILE takes a model as it is)"
        )
    return candidates[-1]


def latest_cut(run: RunDir) -> StageName | None:
    """Return which of transfer and prune the run used last, or None if neither is finished.

    A later stage that was made from what one of them left counts as a use.
    """
    records = {stage: record for stage in STAGES if (record := run.record(stage)) is not None}
    made_by: dict[str | None, StageName] = {
        records[stage].outputs.get(CHECKPOINT): stage
        for stage in CUTTING_STAGES
        if stage in records
    }
    used = [
        (run.finished_at(record.stage), made_by[left])
        for record in records.values()
        for left in (record.outputs.get(CHECKPOINT), record.inputs.get(PARENT_INPUT))
        if left in made_by
    ]
    return max(used)[1] if used else None

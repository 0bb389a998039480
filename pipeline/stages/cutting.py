"""The stages that cut, ``prune`` and ``transfer``: from full width to the target's widths."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.run_dir import KEPT, PLAN
from pipeline.settings.cut_sections import C, stock_target
from pipeline.stage import Stage
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import StageResult
from pipeline.stages.channel_scores import scoring_data
from pipeline.stages.common import finish_model
from pipeline.stages.iteration import Cutter, Iteration, State, load_state, write_kept
from pipeline.stages.prune_iteration import run_iteration
from pipeline.stages.tuning import why_back
from pipeline.target_widths import (
    TRACE_SIZE,
    Groups,
    depends_on_weights,
    final_widths,
    full_width_model,
    schedule,
)
from prune.costs import CostModel
from prune.criteria.criterion import ScoringData
from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.plan_file import PlanFile, read_plan, write_plan
from prune.surgery import cut
from reid_edge.core.checksums import are_intact, record_checksums
from reid_edge.core.tables import FittingTable
from reid_edge.models.registry import build_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir

WIDTHS_UNKNOWN = (
    "The widths depend on the trained weights: --plan shows them once {stage} has started."
)

logger = logging.getLogger(__name__)


def cut_to_target(
    context: StageContext[C], stage: Stage[C], cutter: Cutter | None = None
) -> StageResult:
    """Take the model to the target's widths in the planned number of cuts.

    The widths are written to ``plan.json`` before the first cut. Every iteration writes a folder
    with its checkpoint, the kept channels and its report. A resumed stage reuses finished
    iterations. If an iteration loses more than its accuracy budget, the stage ends with the model
    before that iteration.

    Args:
        context: of the stage.
        stage: its declaration.
        cutter: cuts a model to given widths; none: :func:`prune.surgery.cut`.
    """
    source, _ = context.load_parent()
    groups = find_groups(source, torch.zeros(2, 3, *TRACE_SIZE))
    plan = context.folder / PLAN
    # Once the widths are written they do not change, however they were found.
    if not are_intact(plan):
        # Without them, nothing is known about the iterations that are there.
        for folder in context.folder.glob("iteration_*/"):
            shutil.rmtree(folder)
        _write_plan(context, stage, source, groups, plan)
    final = {**layer_widths(source), **read_plan(plan).widths}
    _, *plans = schedule(context.settings, source, final)
    state: State | None = None
    note = ""
    for number, widths in enumerate(plans, start=1):
        iteration = Iteration(context, cutter or cut, number, len(plans), widths, source, groups)
        if not iteration.is_finished():
            run_iteration(iteration, state or _initial_state(context, source))
            context.progress()
        note = why_back(iteration)
        if note:
            state = state or _initial_state(context, source)
            break
        state = load_state(iteration)
    assert state is not None, "a plan has at least one iteration"
    write_kept(context.folder / KEPT, state.kept)
    model, name = state.model, stock_target(context.settings)
    if name is not None and layer_widths(model) == final:
        # The widths are a stock architecture's: the model is written as that one.
        classes, embedding_dim = model.get_submodule("classifier").weight.shape  # type: ignore[misc]
        stock = build_model(name, num_classes=classes, embedding_dim=embedding_dim)
        stock.load_state_dict(model.state_dict(), strict=True)
        result = finish_model(context, stock, name, state.metrics)
    else:
        result = finish_model(context, model, context.config.model.architecture, state.metrics)
    return result.model_copy(update={"note": note})


def _write_plan(
    context: StageContext[C],
    stage: Stage[C],
    source: nn.Module,
    groups: Groups,
    path: Path,
) -> None:
    def data() -> ScoringData | None:
        return scoring_data(context, context.settings, "plan")

    widths = final_widths(context.config, stage, source, data, groups)
    costs = CostModel(source, context.example())
    cost = costs.cost(widths)
    plan = PlanFile(
        architecture=context.config.model.architecture,
        input_size=context.input_size,
        # Without the classifier, whose width is the number of identities.
        widths={name: widths[name] for name in costs.layers},
        macs=cost.macs,
        parameters=cost.parameters,
        note=f"{context.stage}.target={context.settings.target}",
    )
    write_plan(path, plan)
    record_checksums(path)
    logger.info(
        "%s: planned %.1f M MACs, %s parameters (%s)",
        context.stage, cost.macs / 1e6, f"{cost.parameters:,}", path,
    )  # fmt: skip


def _initial_state(context: StageContext[C], source: nn.Module) -> State:
    assert context.parent is not None, "a stage that cuts has a parent"
    made = context.made.get(context.parent.parent.name)
    if made is None or made.result.model is None or context.data.labels != "persons":
        metrics = evaluate_stage(source, context)
    else:  # the stage that made the model has measured it on the same images
        metrics = made.result.model.metrics
    kept = {name: torch.arange(width) for name, width in layer_widths(source).items()}
    return State(source.cpu(), kept, metrics)


def planned_widths(
    config: Config, run: RunDir, plan: Plan, stage: Stage[C]
) -> Sequence[RenderableType]:
    """Return the predicted cost and the channels by iteration, or that they need weights."""
    settings, source = config.of(stage), full_width_model(config)
    written = run.stage_dir(stage.name) / PLAN
    if not depends_on_weights(settings):
        final = final_widths(config, stage, source)
    elif written.is_file() and not any(
        step.stage == stage.name and step.action == "run" for step in plan.steps
    ):
        final = {**layer_widths(source), **read_plan(written).widths}
    else:
        return [WIDTHS_UNKNOWN.format(stage=stage.name)]
    costs = CostModel(source, torch.zeros(1, 3, config.data.height, config.data.width))
    full, compact = costs.cost({}), costs.cost(final)
    line = (
        f"{stage.name}: {full.parameters:,} -> {compact.parameters:,} parameters, "
        f"{full.macs / 1e6:.1f} M -> {compact.macs / 1e6:.1f} M MACs"
    )
    return [line, widths_table(schedule(settings, source, final))]


def widths_table(widths: Sequence[dict[str, int]]) -> RenderableType:
    """Return the layers' channels at the start and after each iteration."""
    rows = ([name, *(str(step[name]) for step in widths)] for name in widths[0])
    return FittingTable(
        "Channels by iteration",
        ["layer", "now", *map(str, range(1, len(widths)))],
        [row for row in rows if len(set(row[1:])) > 1],
        # What a schedule begins and ends with says most.
        drop=[str(iteration) for iteration in range(1, len(widths) - 1)],
    )

"""Stage ``prune``: from full width to the target's widths in K iterations."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.run_dir import KEPT, PLAN
from pipeline.settings.cut import PruneStage, TransferStage
from pipeline.stages.channel_scores import scoring_data
from pipeline.stages.common import finish_model
from pipeline.stages.iteration import Iteration, State, load_state, write_kept
from pipeline.stages.prune_iteration import run_iteration
from pipeline.stages.tuning import exceeded_budget, judges_apart
from pipeline.widths import TRACE_SIZE, Groups, final_widths, schedule, stock_target
from prune.costs import CostModel
from prune.criteria.criterion import ScoringData
from prune.layers import layer_widths
from prune.nni_backend import find_groups
from prune.plan_file import PlanFile, read_plan, write_plan
from reid_edge.models.registry import build_model

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Take the model to the target's widths; return the row of the closing table."""
    return cut_to_target(context, context.config.prune)


def cut_to_target(context: StageContext, settings: TransferStage | PruneStage) -> dict[str, Any]:
    """Take the model to the target's widths, by as many cuts as are planned for the stage.

    The widths are written to ``plan.json`` before the first cut. Every iteration leaves a folder
    with its checkpoint, which channels are kept, and its report; a finished iteration is not done
    again after an interruption. An iteration that loses more than its accuracy budget ends the
    stage at the widths before it.

    Args:
        context: of the stage.
        settings: of the stage.

    Returns:
        The row of the closing table.
    """
    source, _ = context.load_parent()
    groups = find_groups(source, torch.zeros(2, 3, *TRACE_SIZE))
    final = _planned(context, settings, source, groups)
    _, *plans = schedule(context.config, context.stage, source, final)
    state: State | None = None
    note = ""
    for number, widths in enumerate(plans, start=1):
        iteration = Iteration(context, settings, number, len(plans), widths, source, groups)
        if not iteration.is_finished():
            run_iteration(iteration, state or _initial_state(context, source))
        lost = exceeded_budget(iteration)
        if lost is not None:
            state = state or _initial_state(context, source)
            note = _went_back(iteration, lost)
            break
        state = load_state(iteration)
    assert state is not None, "a plan has at least one iteration"
    write_kept(context.folder / KEPT, state.kept)
    return _finish(context, state, final) | ({"note": note} if note else {})


def _planned(
    context: StageContext,
    settings: TransferStage | PruneStage,
    source: nn.Module,
    groups: Groups,
) -> dict[str, int]:
    """Return the final widths; once written they do not change, however they were found."""
    path = context.folder / PLAN
    if not path.exists():
        _write_plan(context, settings, source, groups, path)
    return {**layer_widths(source), **read_plan(path).widths}


def _write_plan(
    context: StageContext,
    settings: TransferStage | PruneStage,
    source: nn.Module,
    groups: Groups,
    path: Path,
) -> None:
    def data() -> ScoringData | None:
        return scoring_data(context, settings, "plan")

    widths = final_widths(context.config, context.stage, source, data, groups)
    costs = CostModel(source, context.example())
    cost = costs.cost(widths)
    plan = PlanFile(
        architecture=context.config.model.architecture,
        input_size=context.input_size,
        # Without the classifier, whose width is the number of identities.
        widths={name: widths[name] for name in costs.layers},
        macs=cost.macs,
        parameters=cost.parameters,
        note=f"{context.stage}.target={settings.target}",
    )
    write_plan(path, plan)
    logger.info(
        "%s: planned %.1f M MACs, %s parameters (%s)",
        context.stage, cost.macs / 1e6, f"{cost.parameters:,}", path,
    )  # fmt: skip


def _went_back(iteration: Iteration, lost: float) -> str:
    budget = iteration.accuracy_budget
    assert budget is not None
    where = " on the identities set apart" if judges_apart(iteration) else ""
    previous = f"iteration {iteration.number - 1}" if iteration.number > 1 else "full width"
    note = (
        f"{iteration.context.stage} went back to {previous}: iteration {iteration.number} of "
        f"{iteration.count} lost {100 * lost:.1f} mAP{where}, more than the {100 * budget:.1f} of "
        "prune.accuracy_budget"
    )
    logger.warning("%s", note)
    return note


def _finish(context: StageContext, state: State, final: dict[str, int]) -> dict[str, Any]:
    """Write the model: as a stock architecture where that is what it is."""
    name = stock_target(context.config, context.stage)
    if name is None or layer_widths(state.model) != final:
        return finish_model(context, state.model, context.config.model.architecture, state.metrics)
    classes, embedding_dim = state.model.get_submodule("classifier").weight.shape  # type: ignore[misc]
    stock = build_model(name, num_classes=classes, embedding_dim=embedding_dim)
    stock.load_state_dict(state.model.state_dict(), strict=True)
    return finish_model(context, stock, name, state.metrics)


def _initial_state(context: StageContext, source: nn.Module) -> State:
    metrics = evaluate(source, context)
    kept = {name: torch.arange(width) for name, width in layer_widths(source).items()}
    return State(source.cpu(), kept, metrics)

"""Stage ``prune``: from full width to the target's widths in K iterations."""

from typing import Any

import torch
from torch import nn

from pipeline.config import CutSettings
from pipeline.context import StageContext
from pipeline.evaluation import evaluate, headline
from pipeline.run_dir import KEPT
from pipeline.stages.common import finish_model
from pipeline.stages.prune_iteration import (
    SURGERY_SIZE,
    Iteration,
    State,
    load_state,
    run_iteration,
    write_kept,
)
from pipeline.widths import planned_widths
from prune.layers import layer_widths
from prune.nni_backend import find_groups
from reid.models.registry import build_model


def run(context: StageContext) -> dict[str, Any]:
    """Take the model to the target's widths; return the row of the closing table."""
    return cut_to_target(context, context.config.prune)


def cut_to_target(context: StageContext, settings: CutSettings) -> dict[str, Any]:
    """Take the model to the target's widths, by as many cuts as are planned for the stage.

    Every iteration leaves a folder with its checkpoint, which channels are kept, and its report;
    a finished iteration is not done again after an interruption.

    Args:
        context: of the stage.
        settings: of the stage.

    Returns:
        The row of the closing table.
    """
    source, _ = context.load_parent()
    classes, embedding_dim = source.get_submodule("classifier").weight.shape  # type: ignore[misc]
    _, *plans = planned_widths(context.config, context.stage, classes)
    groups = find_groups(source, torch.zeros(2, 3, *SURGERY_SIZE))
    state: State | None = None
    for number, widths in enumerate(plans, start=1):
        iteration = Iteration(context, settings, number, len(plans), widths, source, groups)
        if not iteration.is_finished():
            run_iteration(iteration, state or _initial_state(context, source))
        state = load_state(iteration)
    assert state is not None, "a plan has at least one iteration"
    stock = build_model(settings.target, num_classes=classes, embedding_dim=embedding_dim)
    stock.load_state_dict(state.model.state_dict(), strict=True)
    write_kept(context.folder / KEPT, state.kept)
    return finish_model(context, stock, settings.target, state.metrics)


def _initial_state(context: StageContext, source: nn.Module) -> State:
    metrics = evaluate(source, context)
    return State(
        model=source.cpu(),
        kept={name: torch.arange(width) for name, width in layer_widths(source).items()},
        accuracy=headline(metrics, context.config),
        metrics=metrics,
    )

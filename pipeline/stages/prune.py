"""Stage ``prune``: from full width to the target's widths in K iterations."""

from typing import Any

import torch
from torch import nn

from pipeline.context import StageContext
from pipeline.evaluation import evaluate, headline
from pipeline.run_dir import KEPT
from pipeline.stages.common import finish_model
from pipeline.stages.prune_iteration import (
    Iteration,
    State,
    load_state,
    run_iteration,
    write_kept,
)
from pipeline.widths import planned_widths
from prune.layers import layer_widths
from reid.models.registry import build_model


def run(context: StageContext) -> dict[str, Any]:
    """Take the model to the target's widths; return the row of the closing table.

    Every iteration leaves a folder with its checkpoint, which channels are kept, and its report;
    a finished iteration is not done again after an interruption.
    """
    source, _ = context.load_parent()
    classes, embedding_dim = source.get_submodule("classifier").weight.shape  # type: ignore[misc]
    _, *plans = planned_widths(context.config, classes)
    state: State | None = None
    for number, widths in enumerate(plans, start=1):
        iteration = Iteration(context, number, len(plans), widths, source)
        if not iteration.is_finished():
            run_iteration(iteration, state or _initial_state(context, source))
        state = load_state(iteration)
    assert state is not None, "a plan has at least one iteration"
    target = context.config.prune.target
    stock = build_model(target, num_classes=classes, embedding_dim=embedding_dim)
    stock.load_state_dict(state.model.state_dict(), strict=True)
    write_kept(context.folder / KEPT, state.kept)
    return finish_model(context, stock, target, state.metrics)


def _initial_state(context: StageContext, source: nn.Module) -> State:
    metrics = evaluate(source, context)
    return State(
        model=source.cpu(),
        kept={name: torch.arange(width) for name, width in layer_widths(source).items()},
        accuracy=headline(metrics, context.config),
        metrics=metrics,
    )

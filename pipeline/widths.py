"""The widths that a configuration asks for, iteration by iteration."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pipeline.config import Config
from pipeline.settings.stage_names import StageName
from pipeline.settings.target import PLAN_SUFFIX, WidthBudget
from prune.budgets import removal_losses, widths_for_latency, within_limit
from prune.costs import output_layers
from prune.criteria import CRITERIA
from prune.criteria.criterion import ScoringData
from prune.cut import cut
from prune.layers import Widths, layer_widths
from prune.nni_backend import find_groups
from prune.plan_file import read_plan
from prune.width_options import WidthOptions, shares_by_pattern, width_options
from prune.widths import SCHEDULES, check_groups
from quantize.latency import Candidate, measure_latency
from reid_edge.core.errors import PipelineError, PruneError
from reid_edge.models.custom_widths import differing_form
from reid_edge.models.registry import ARCHITECTURES, build_model

CUTTING_STAGES: tuple[StageName, ...] = ("transfer", "prune")
# Tracing and surgery are fast on small images, and their result does not depend on the size.
TRACE_SIZE = (64, 32)
LATENCY_ROUNDS = 40
CLASSIFIER = "classifier"

Data = Callable[[], ScoringData | None]
Groups = list[tuple[str, ...]]

logger = logging.getLogger(__name__)


def cutting_stage(config: Config) -> StageName | None:
    """Return the requested stage that takes the model to its target's widths, if there is one."""
    return next((stage for stage in config.stages if stage in CUTTING_STAGES), None)


def stock_target(config: Config, stage: str) -> str | None:
    """Return the architecture that a stage ends at, or None if the widths are no architecture's."""
    target = config.transfer.target if stage == "transfer" else config.prune.target
    return target if isinstance(target, str) and target in ARCHITECTURES else None


def plan_path(config: Config) -> Path | None:
    """Return the plan file that ``prune.target`` names, if it names one."""
    target = config.prune.target
    return Path(target) if isinstance(target, str) and target.endswith(PLAN_SUFFIX) else None


def depends_on_weights(config: Config) -> bool:
    """Tell whether the widths of ``prune`` cannot be known before there is a trained model."""
    target = config.prune.target
    return isinstance(target, WidthBudget) and (
        target.widths == "by_loss" or target.latency is not None
    )


def full_width_model(config: Config) -> nn.Module:
    """Build the full-width architecture with random weights, for its shapes."""
    return build_model(
        config.model.architecture, num_classes=2, embedding_dim=config.model.embedding_dim
    ).eval()


def schedule(config: Config, stage: str, source: nn.Module, final: Widths) -> list[dict[str, int]]:
    """Return the widths of every layer now and after each cut of a stage.

    Raises:
        PruneError: the final widths are wider than the source's.
    """
    now = layer_widths(source)
    if stage == "transfer":
        return [now, *SCHEDULES["linear"](now, final, 1)]
    plan = SCHEDULES[config.prune.schedule]
    return [now, *plan(now, final, config.prune.iterations)]


def final_widths(
    config: Config,
    stage: str,
    source: nn.Module,
    data: Data | None = None,
    groups: Groups | None = None,
) -> dict[str, int]:
    """Return the widths of every layer after a stage.

    Args:
        config: all settings.
        stage: "transfer" or "prune".
        source: the full-width model; its weights count where :func:`depends_on_weights`.
        data: draws what the criterion measures the loss of removing channels on, where it does
            that; without, and with any other criterion, the loss is the share of squared L2 norm
            that is removed.
        groups: layers of the source whose channels go together; none: they are found here, where
            they are needed, which takes seconds.

    Raises:
        PipelineError: settings do not fit together, or the target is no narrower form of the
            architecture.
        PruneError: the target cannot be reached from the source.
    """
    name = stock_target(config, stage)
    path = plan_path(config) if stage == "prune" else None
    if name is not None or path is not None:
        _refuse_width_options(config, stage)
    if name is not None:
        return _stock_widths(config, stage, source, name)
    if path is not None:
        return _widths_of_plan(config, source, path, groups)
    free = _width_options(config, source, groups)
    target = config.prune.target
    if isinstance(target, float):
        return free.widths(shares_by_pattern(free, target, config.prune.ratios))
    assert isinstance(target, WidthBudget), "the target's name was checked with the settings"
    if config.prune.ratios:
        raise PipelineError("prune.ratios: a budget finds the shares itself; take one of them out")
    return _within(target, free, source, config, data)


def _refuse_width_options(config: Config, stage: str) -> None:
    prune = config.prune
    choices = {
        "ratios": prune.ratios,
        "untouched": prune.untouched,
        "multiple": prune.multiple > 1,
    }
    given = [key for key, value in choices.items() if value]
    if given and stage == "prune":
        raise PipelineError(
            f"prune.{given[0]}: prune.target={prune.target} says every width already; give a share "
            "(prune.target=0.6) or a budget instead, or take it out"
        )


def _stock_widths(config: Config, stage: str, source: nn.Module, name: str) -> dict[str, int]:
    classes, embedding_dim = source.get_submodule("classifier").weight.shape  # type: ignore[misc]
    narrow = build_model(name, num_classes=classes, embedding_dim=embedding_dim)
    differing = sorted(set(source.state_dict()) ^ set(narrow.state_dict()))
    if differing:
        raise PipelineError(
            f"{stage}.target: {name} is no narrower {config.model.architecture}: {differing[0]!r} "
            "is in one of them only; choose a target of the same family"
        )
    layer = differing_form(source, narrow)
    if layer is not None:
        raise PipelineError(
            f"{stage}.target: {name} is no narrower {config.model.architecture}: {layer!r} has "
            "another stride or padding there; choose a target of the same family, or a share of "
            "the channels, such as prune.target=0.5"
        )
    return layer_widths(narrow)


def _widths_of_plan(
    config: Config, source: nn.Module, path: Path, groups: Groups | None
) -> dict[str, int]:
    plan = read_plan(path)
    if plan.architecture != config.model.architecture:
        raise PipelineError(
            f"{path}: a plan for {plan.architecture}, but model.architecture is "
            f"{config.model.architecture}; make a plan for it"
        )
    unknown = sorted(set(plan.widths) - set(layer_widths(source)))
    if unknown:
        raise PipelineError(f"{path}: {unknown[0]!r} is no layer of {plan.architecture}")
    _check_outputs(path, plan.widths, source)
    widths = {**layer_widths(source), **plan.widths}
    if groups is None:
        groups = find_groups(source, torch.zeros(2, 3, *TRACE_SIZE))
    try:
        check_groups(widths, groups)
    except PruneError as error:
        raise PipelineError(f"{path}: {error}; give both the same width") from error
    return widths


def _check_outputs(path: Path, planned: Widths, source: nn.Module) -> None:
    if CLASSIFIER in planned:
        raise PipelineError(
            f"{path}: {CLASSIFIER!r} has an output for each identity whatever the plan; take it out"
        )
    full = layer_widths(source)
    for name in sorted(output_layers(source) & set(planned)):
        if planned[name] != full[name]:
            raise PipelineError(
                f"{path}: {name!r} gives {planned[name]} channels and is the embedding, which has "
                f"{full[name]} here; make model.embedding_dim the plan's, or take the layer out"
            )


def _width_options(config: Config, source: nn.Module, groups: Groups | None) -> WidthOptions:
    return width_options(
        source,
        torch.zeros(2, 3, *TRACE_SIZE),
        cost_example=torch.zeros(1, 3, config.data.height, config.data.width),
        untouched=config.prune.untouched,
        multiple=config.prune.multiple,
        groups=groups,
    )


def _within(
    budget: WidthBudget,
    free: WidthOptions,
    source: nn.Module,
    config: Config,
    data: Data | None,
) -> dict[str, int]:
    losses = None
    if budget.widths == "by_loss":
        criterion = CRITERIA.load(config.prune.criterion)
        drawn = data() if data is not None and criterion.losses is not None else None
        losses = removal_losses(free, source.cpu(), criterion, drawn)
    if budget.parameters is not None:
        return within_limit(free, budget.parameters, lambda cost: cost.parameters, losses)
    if budget.macs is not None:
        return within_limit(free, budget.macs, lambda cost: cost.macs, losses)
    assert budget.latency is not None
    groups: Groups = [unit.layers for unit in free.units if len(unit.layers) > 1]
    widths, _ = widths_for_latency(
        budget.latency,
        at=lambda share: within_limit(free, share, lambda cost: cost.macs, losses),
        latency=lambda widths: _latency_share(source, widths, config, groups),
    )
    return widths


def _latency_share(source: nn.Module, widths: Widths, config: Config, groups: Groups) -> float:
    """Measure a model at some widths beside the full-width one, batch 1, in turns."""
    example = torch.randn(2, 3, *TRACE_SIZE, generator=torch.Generator().manual_seed(0))
    compact = cut(source, widths, example=example, check_input=example, groups=groups).model
    image = torch.zeros(1, 3, config.data.height, config.data.width)
    full = source.cpu().eval()
    with torch.inference_mode():
        times = measure_latency(
            {
                "full": Candidate(lambda: full(image)),
                "compact": Candidate(lambda: compact(image)),
            },
            rounds=LATENCY_ROUNDS,
            threads=config.latency.threads,
        )
    ratio = times["compact"].ratio
    logger.info("a probe takes %.2f of the full-width model's latency", ratio)
    return ratio

"""The widths that a configuration asks for, iteration by iteration."""

import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pipeline.config import Config
from pipeline.runtime_latency import (
    RuntimeTimer,
    check_runtime,
    macs_by_table,
    refuse_if_fast,
)
from pipeline.settings.cut_sections import C, CutStage, stock_target
from pipeline.settings.target import RUNTIMES, WidthBudget
from pipeline.stage import Stage
from prune.budgets import removal_losses, within_limit
from prune.costs import output_layers
from prune.criteria import find_criterion
from prune.criteria.criterion import ScoringData
from prune.latency_search import ProbeTime, widths_for_latency
from prune.layer_widths import Widths, layer_widths
from prune.nni_backend import find_groups
from prune.plan_file import read_plan
from prune.plans import SCHEDULES, check_groups
from prune.surgery import cut
from prune.width_options import WidthOptions, shares_by_pattern, width_options
from quantize.timing import Candidate, measure_latency
from reid_edge.core.errors import PipelineError, PruneError
from reid_edge.models.custom_widths import differing_form
from reid_edge.models.registry import ARCHITECTURES, build_model

# Tracing and surgery are faster on small images; the result does not depend on the size.
TRACE_SIZE = (64, 32)
LATENCY_ROUNDS = 40
CLASSIFIER = "classifier"

Data = Callable[[], ScoringData | None]
Groups = list[tuple[str, ...]]

logger = logging.getLogger(__name__)


def depends_on_weights(settings: CutStage) -> bool:
    """Return whether the widths of a stage depend on trained weights."""
    target = settings.target
    if not isinstance(target, WidthBudget):
        return False
    return target.widths == "by_loss" or (settings.measures_latency and target.table is None)


def full_width_model(config: Config) -> nn.Module:
    """Build the full-width architecture with random weights, for its shapes."""
    return build_model(
        config.model.architecture, num_classes=2, embedding_dim=config.model.embedding_dim
    ).eval()


def schedule(settings: CutStage, source: nn.Module, final: Widths) -> list[dict[str, int]]:
    """Return the widths of every layer now and after each cut of a stage.

    Raises:
        PruneError: the final widths are wider than the source's.
    """
    now = layer_widths(source)
    return [now, *SCHEDULES[settings.schedule](now, final, settings.iterations)]


def final_widths(
    config: Config,
    stage: Stage[C],
    source: nn.Module,
    data: Data | None = None,
    groups: Groups | None = None,
) -> dict[str, int]:
    """Return the widths of every layer after a stage.

    Args:
        config: all settings.
        stage: one that cuts.
        source: the full-width model; its weights count where :func:`depends_on_weights`.
        data: draws the images for a criterion that measures the loss of removing channels. Without
            it, and with any other criterion, the loss is the negative logarithm of the share of
            squared L2 norm that is kept.
        groups: layers of the source whose channels go together; none: they are found here if they
            are needed, which takes seconds.

    Raises:
        PipelineError: settings do not fit together, or the target is no narrower form of the
            architecture.
        PruneError: the target cannot be reached from the source.
    """
    settings = config.of(stage)
    name, path = stock_target(settings), settings.plan_path
    if name is not None or path is not None:
        choices = {
            "ratios": bool(settings.ratios),
            "untouched": bool(settings.untouched),
            "multiple": settings.multiple > 1,
        }
        given = next((key for key, value in choices.items() if value), None)
        if given is not None:
            raise PipelineError(
                f"{stage.name}.{given}: {stage.name}.target={settings.target} says every width "
                f"already; give a share ({stage.name}.target=0.6) or a budget instead, or take it "
                "out"
            )
    if name is not None:
        return _stock_widths(config, stage.name, source, name)
    if path is not None:
        return _widths_of_plan(config, source, path, groups)
    options = width_options(
        source,
        torch.zeros(2, 3, *TRACE_SIZE),
        cost_example=torch.zeros(1, 3, config.data.height, config.data.width),
        untouched=settings.untouched,
        multiple=_multiple(settings),
        groups=groups,
    )
    target = settings.target
    if isinstance(target, float):
        return options.widths(shares_by_pattern(options, target, settings.ratios))
    assert isinstance(target, WidthBudget), "the target's name was checked with the settings"
    if settings.ratios:
        raise PipelineError(
            f"{stage.name}.ratios: a budget finds the shares itself; take one of them out"
        )
    return _within(target, options, source, config, settings, data, stage.name)


def check_reachable(config: Config, stage: Stage[C]) -> None:
    """Check that a stage can reach its target, as far as this does not depend on weights.

    Raises:
        PipelineError: settings do not fit together.
        PruneError: the target cannot be reached from the source.
    """
    settings: CutStage = config.of(stage)
    checked = config
    find_criterion(settings.criterion)  # one of an installed package may not import
    if settings.measures_latency:
        target = settings.target
        assert isinstance(target, WidthBudget), "a latency is a budget"
        if target.latency_ms is not None:
            check_runtime(target)
        if target.table is None:
            # Measuring takes long; the other settings are checked without it.
            unmeasured = WidthBudget(macs=1.0, widths=target.widths)
            settings = settings.model_copy(
                update={"target": unmeasured, "multiple": _multiple(settings)}
            )
            checked = config.model_copy(update={stage.name: settings})
    source = full_width_model(checked)
    schedule(settings, source, final_widths(checked, stage, source))


def _stock_widths(config: Config, stage: str, source: nn.Module, name: str) -> dict[str, int]:
    classes, embedding_dim = source.get_submodule("classifier").weight.shape  # type: ignore[misc]
    narrow = build_model(name, num_classes=classes, embedding_dim=embedding_dim)
    differing = sorted(set(source.state_dict()) ^ set(narrow.state_dict()))
    if differing:
        raise PipelineError(
            f"{stage}.target: {name} is no narrower {config.model.architecture}: {differing[0]!r} "
            f"is in one of them only; {_choose_another(config, stage)}"
        )
    layer = differing_form(source, narrow)
    if layer is not None:
        raise PipelineError(
            f"{stage}.target: {name} is no narrower {config.model.architecture}: {layer!r} has "
            f"another stride or padding there; {_choose_another(config, stage)}"
        )
    return layer_widths(narrow)


def _choose_another(config: Config, stage: str) -> str:
    """Say which targets there are for an architecture."""
    width = re.compile(r"_x\d_\d+")
    variant = width.sub("", config.model.architecture)
    narrower = [
        name
        for name in ARCHITECTURES
        if name != config.model.architecture and width.sub("", name) == variant
    ]
    stock = f"{stage}.target={' or '.join(narrower)}, or " if narrower else ""
    return f"choose {stock}a share of the channels, such as {stage}.target=0.5"


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
    if CLASSIFIER in plan.widths:
        raise PipelineError(
            f"{path}: {CLASSIFIER!r} has an output for each identity whatever the plan; take it out"
        )
    full = layer_widths(source)
    for name in sorted(output_layers(source) & set(plan.widths)):
        if plan.widths[name] != full[name]:
            raise PipelineError(
                f"{path}: {name!r} gives {plan.widths[name]} channels and is the embedding, which "
                f"has {full[name]} here; make model.embedding_dim the plan's, or take the layer out"
            )
    widths = {**full, **plan.widths}
    if groups is None:
        groups = find_groups(source, torch.zeros(2, 3, *TRACE_SIZE))
    try:
        check_groups(widths, groups)
    except PruneError as error:
        raise PipelineError(f"{path}: {error}; give both the same width") from error
    return widths


def _within(
    budget: WidthBudget,
    free: WidthOptions,
    source: nn.Module,
    config: Config,
    settings: CutStage,
    data: Data | None,
    stage: str,
) -> dict[str, int]:
    losses = None
    if budget.widths == "by_loss":
        criterion = find_criterion(settings.criterion)
        drawn = data() if data is not None and criterion.losses is not None else None
        losses = removal_losses(free, source.cpu(), criterion, drawn)
    if budget.parameters is not None:
        return within_limit(free, budget.parameters, lambda cost: cost.parameters, losses)
    if budget.macs is not None:
        return within_limit(free, budget.macs, lambda cost: cost.macs, losses)
    groups: Groups = [unit.layers for unit in free.units if len(unit.layers) > 1]

    def at(share: float) -> dict[str, int]:
        return within_limit(free, share, lambda cost: cost.macs, losses)

    if budget.latency is not None:

        def beside_full(widths: Widths) -> ProbeTime:
            return latency_share(source, widths, config, groups)

        return widths_for_latency(budget.latency, at=at, timer=beside_full).widths
    if budget.table is not None:
        macs = macs_by_table(budget, int(free.costs.cost({}).macs), stage)
        try:
            return within_limit(free, macs, lambda cost: cost.macs, losses)
        except PruneError as error:
            raise PruneError(
                f"{stage}.target.latency_ms: in {budget.latency_ms:g} ms, {budget.table} allows "
                f"{macs / 1e6:.1f} M MACs, with widths in multiples of {free.multiple}: {error}"
            ) from error
    assert budget.latency_ms is not None, "one of the four is given"
    size = (config.data.height, config.data.width)
    with tempfile.TemporaryDirectory(prefix="reid-edge-") as folder:
        timer = RuntimeTimer(
            source, budget, Path(folder), size=size, groups=groups, trace_size=TRACE_SIZE
        )
        full_ms = timer.full_ms()
        refuse_if_fast(full_ms, budget, stage)
        found = widths_for_latency(
            budget.latency_ms,
            at=at,
            timer=timer,
            full_ms=full_ms,
            unit=f"ms as {budget.runtime}",
        )
    refuse_if_fast(found.full, budget, stage)  # the first measurement may have met another load
    logger.info(
        "latency as %s: %.2f ms at full width, %.2f ms (%.2f to %.2f) at these widths; the limit "
        "is %g ms",
        budget.runtime, found.full, found.latency, found.lower, found.upper, budget.latency_ms,
    )  # fmt: skip
    return found.widths


def _multiple(settings: CutStage) -> int:
    """Return what widths are multiples of: the setting, or what a runtime is fast with."""
    target = settings.target
    if settings.multiple == 1 and isinstance(target, WidthBudget) and target.runtime is not None:
        return RUNTIMES[target.runtime].multiple
    return settings.multiple


def latency_share(source: nn.Module, widths: Widths, config: Config, groups: Groups) -> ProbeTime:
    """Return the latency at some widths as a share of the full-width model's, at batch 1."""
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
    full_ms, found = times["full"].median_ms, times["compact"]
    return ProbeTime(
        found.ratio, found.lower_quartile_ms / full_ms, found.upper_quartile_ms / full_ms, full_ms
    )

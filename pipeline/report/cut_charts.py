"""The cuts of a run as charts: what each step cost, and what became of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.charts import Series, Value, chart, heat_map
from prune.report import IterationReport, LayerReport


@dataclass(frozen=True)
class CutCharts:
    """The charts of all cuts.

    Attributes:
        steps: accuracy before each cut and after each of its steps.
        widths: channels of every layer, before and after each cut.
        sparsity: share of the channels of the first model that is removed, by layer and cut.
        norms: for each cut, the strongest removed and the weakest kept channel of every layer.
    """

    steps: Markup
    widths: Markup
    sparsity: Markup
    norms: tuple[Markup, ...]


def cut_charts(iterations: Sequence[IterationReport]) -> CutCharts | None:
    """Draw the cuts of a run, or return None if there are none."""
    if not iterations:
        return None
    names = [f"cut {report.iteration} of {report.iterations}" for report in iterations]
    return CutCharts(
        steps=_steps(iterations, names),
        widths=_widths(iterations, names),
        sparsity=_sparsity(iterations, names),
        norms=tuple(_norms(report, name) for report, name in zip(iterations, names, strict=True)),
    )


def _steps(iterations: Sequence[IterationReport], names: Sequence[str]) -> Markup:
    measure = iterations[0].measure
    steps = list(dict.fromkeys(step for report in iterations for step in report.accuracy))
    words = [step.removeprefix("after_").replace("_", " ") for step in steps]
    series = [
        Series(
            name,
            [
                Value(number, 100 * values[measure], f"{name}, {words[number]}: "
                      f"{measure} {values[measure]:.1%}")
                for number, step in enumerate(steps)
                if measure in (values := report.accuracy.get(step, {}))
            ],
        )
        for name, report in zip(names, iterations, strict=True)
    ]  # fmt: skip
    return chart(
        f"{measure} before each cut and after surgery, reconstruction, recalibration and tuning",
        series, across="step of a cut", up=f"{measure} in per cent", categories=words,
    )  # fmt: skip


def _widths(iterations: Sequence[IterationReport], names: Sequence[str]) -> Markup:
    def values(layers: Sequence[LayerReport], *, after: bool, when: str) -> list[Value]:
        widths = [layer.channels_kept if after else layer.channels_before for layer in layers]
        return [
            Value(number, width, f"{layer.name} {when}: {width} channels")
            for number, (layer, width) in enumerate(zip(layers, widths, strict=True), start=1)
        ]

    first = values(iterations[0].layers, after=False, when="before")
    series = [Series("before", first, points=False, steps=True)]
    series += [
        Series(
            f"after {name}",
            values(report.layers, after=True, when=f"after {name}"),
            points=False, steps=True,
        )
        for name, report in zip(names, iterations, strict=True)
    ]  # fmt: skip
    return chart(
        "Channels of every layer before and after each cut", series,
        across="layer, in the order of the forward pass", up="channels", from_zero=True,
    )  # fmt: skip


def _sparsity(iterations: Sequence[IterationReport], names: Sequence[str]) -> Markup:
    layers = [layer.name for layer in iterations[0].layers]
    full = {layer.name: layer.channels_before for layer in iterations[0].layers}
    removed = [
        [1 - kept.get(name, full[name]) / full[name] for name in layers]
        for kept in (
            {layer.name: layer.channels_kept for layer in report.layers} for report in iterations
        )
    ]
    return heat_map(
        "Share of the channels of the first model that is removed, by layer and cut",
        names, layers, removed, "removed",
    )  # fmt: skip


def _norms(report: IterationReport, name: str) -> Markup:
    def values(attribute: str, words: str) -> list[Value]:
        norms = [getattr(layer, attribute) for layer in report.layers]
        return [
            Value(number, norm, f"{layer.name}: {words} channel, L2 norm {norm:.3f}")
            for number, (layer, norm) in enumerate(
                zip(report.layers, norms, strict=True), start=1
            )
            if norm
        ]  # fmt: skip

    return chart(
        f"{name}: L2 norm of the strongest removed and the weakest kept channel of every layer",
        [
            Series("strongest removed", values("largest_removed_norm", "strongest removed"),
                   line=False),
            Series("weakest kept", values("smallest_kept_norm", "weakest kept"), line=False),
        ],
        across="layer, in the order of the forward pass", up="L2 norm", logarithmic=True,
    )  # fmt: skip

"""The curves of every training of a run: loss, learning rate and mAP by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from pipeline.report.charts import Series, Value, chart
from pipeline.run_dir import SUPERSEDED, RunDir

METRICS_CSV = "metrics.csv"
SMALL = 200  # height of a chart
RATES = ("learning_rate", "head_learning_rate")


@dataclass(frozen=True)
class TrainingCurves:
    """The curves of one training.

    Attributes:
        name: stage, and the cut that it belongs to.
        epochs: number of finished epochs.
        losses: the losses by epoch.
        rates: the learning rates by epoch.
        accuracy: mAP on the validation identities by epoch; empty without them.
    """

    name: str
    epochs: int
    losses: Markup
    rates: Markup
    accuracy: Markup


def training_curves(run: RunDir) -> list[TrainingCurves]:
    """Draw the trainings of a run whose epochs were written, in order, as far as they are."""
    found = []
    for stage in run.stages.names:
        paths = run.stage_dir(stage).rglob(METRICS_CSV)
        for path in sorted(paths, key=lambda path: (len(path.parts), _number(path), str(path))):
            rows = _read(path)
            if rows and SUPERSEDED not in path.relative_to(run.path).parts:
                name = " ".join(path.parent.relative_to(run.path).parts).replace("_", " ")
                found.append(_draw(name, rows))
    return found


def _draw(name: str, rows: Sequence[dict[str, float]]) -> TrainingCurves:
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "epoch"))
    accuracy = [key for key in keys if "mAP" in key]
    losses = [key for key in keys if key not in (*RATES, *accuracy)]
    rates = [key for key in RATES if key in keys]
    if len(rates) == 2 and all(row.get(RATES[0]) == row.get(RATES[1]) for row in rows):
        rates.pop()  # one line would hide the other

    def draw(what: str, chosen: Sequence[str], up: str) -> Markup:
        series = [
            Series(
                key.replace("_", " "),
                [
                    Value(row["epoch"], row[key], f"{key.replace('_', ' ')}, epoch "
                          f"{row['epoch']:.0f}: {row[key]:.4g}")
                    for row in rows
                    if key in row
                ],
                points=len(rows) <= 30,
            )
            for key in chosen
        ]  # fmt: skip
        return chart(f"{name}: {what} by epoch", series, across="epoch", up=up, height=SMALL)

    return TrainingCurves(
        name=name,
        epochs=len(rows),
        losses=draw("losses", losses, "loss"),
        rates=draw("learning rates", rates, "learning rate"),
        accuracy=draw("mAP of the validation identities", accuracy, "mAP"),
    )


def _read(path: Path) -> list[dict[str, float]]:
    """Return the finite numbers of every epoch; nothing of a file that cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = [
                {key: float(text) for key, text in row.items() if key and text}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError, csv.Error):
        return []
    rows = [{key: value for key, value in row.items() if math.isfinite(value)} for row in table]
    return [row for row in rows if "epoch" in row]


def _number(path: Path) -> int:
    """Return the number of the cut that a training belongs to, or 0."""
    digits = path.parent.name.rpartition("_")[2]
    return int(digits) if digits.isdecimal() else 0

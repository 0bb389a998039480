"""What int8 costs: float, static per tensor and per channel, and trained, from one checkpoint.

    python -m benchmarks.quantization --checkpoint CHECKPOINT --data DATA --output OUTPUT
    python -m benchmarks.quantization ... --only "static, per channel" --scan

Every row of a seed is the pipeline's stage ``quantize`` with other settings: the seed draws the
calibration images, and in training the batches. What is finished in OUTPUT is not made again, so
rows can be added one by one, and an interrupted benchmark is resumed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, is_there, logger, make_parser
from pipeline.command import run_guarded
from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.dependencies import stage_settings
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import headline
from pipeline.stages.int8_files import make_int8
from pipeline.stages.quantize import QUANTIZE, QuantizeStage
from reid_edge.core.io import hash_file, write_json
from reid_edge.data.sources import read_source
from reid_edge.models.checkpoint import load_checkpoint

ROWS: dict[str, dict[str, Any]] = {
    "static, per tensor": {"per_channel": False},
    "static, per channel": {},
    "static, per channel, 1024 images": {"calibration_images": 1024},
    "static, per channel, min-max": {"observer": "minmax"},
    "static, per channel, biases as they are": {"bias_correction": False},
    "trained, per channel": {"mode": "qat"},
}
DEFAULT_ROWS = ("static, per tensor", "static, per channel", "trained, per channel")
RESULT = "result.json"


def main(options: argparse.Namespace) -> None:
    """Measure what is not measured yet, and print the table."""
    torch.set_num_threads(options.threads)
    rows = {"float": [float_row(options)]}
    for name in options.only or DEFAULT_ROWS:
        rows[name] = [int8_row(options, name, seed) for seed in range(options.seeds)]
    console = Console(width=120)
    console.print(accuracy_table(options, rows))
    for row in rows.values():
        if row[0].get("scan"):
            console.print(scan_table(row[0]["scan"], options.layers))
            break


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of the float model")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--format", default="market1501", help="how it is laid out")
    parser.add_argument("--output", type=Path, required=True, help="where results are kept")
    parser.add_argument("--seeds", type=at_least(1), default=3, help="draws of every row")
    parser.add_argument("--epochs", type=at_least(1), default=2, help="of training")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of training")
    parser.add_argument("--only", choices=sorted(ROWS), action="append", help="rows")
    parser.add_argument("--scan", action="store_true", help="layer by layer, with seed 0")
    parser.add_argument("--layers", type=at_least(1), default=20, help="rows of the scan's table")
    parser.add_argument("--threads", type=at_least(1), default=1)
    return parser.parse_args()


def context_of(
    options: argparse.Namespace, folder: Path, seed: int, **settings: Any
) -> StageContext[QuantizeStage]:
    """Return what the stage is given."""
    _, info = load_checkpoint(options.checkpoint)
    config = config_class().model_validate(
        {
            "seed": seed,
            "device": "cpu",
            "threads": options.threads,
            "data": {"root": str(options.data), "format": options.format, "workers": 0},
            "quantize": settings,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext(
        stage="quantize",
        config=config,
        settings=config.of(QUANTIZE),
        folder=folder,
        data=read_source(options.format, options.data),
        parent=options.checkpoint,
        teacher=None,
        parent_hash=hash_file(options.checkpoint),
        input_size=info.input_size,
    )


def float_row(options: argparse.Namespace) -> dict[str, Any]:
    """Evaluate the float model."""
    folder = options.output / "float"
    context = context_of(options, folder, 0)
    settings = settings_of(context)
    if is_there(folder / RESULT, settings):
        return dict(json.loads((folder / RESULT).read_text()))
    model, _ = context.load_parent()
    row = headline(evaluate_stage(model, context), context.config.evaluation.distance)
    write_json(folder / RESULT, {**row, "settings": settings})
    return dict(row)


def settings_of(context: StageContext[QuantizeStage]) -> dict[str, Any]:
    """Return what a result depends on."""
    stage = stage_settings(context.config, QUANTIZE)
    own = stage["quantize"]
    assert isinstance(own, dict), "a section"
    own.pop("scan")  # looks, and changes nothing
    return {"checkpoint": context.parent_hash, "data.root": str(context.data.root), **stage}


def int8_row(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Run the stage with the settings of a row."""
    folder = options.output / re.sub(r"\W+", "-", name) / str(seed)
    asked = dict(ROWS[name])
    if asked.get("mode") == "qat":
        asked["qat"] = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    context = context_of(options, folder, seed, **asked, scan=options.scan and seed == 0)
    settings = settings_of(context)
    if is_there(folder / RESULT, settings):
        return dict(json.loads((folder / RESULT).read_text()))
    logger.info("%s, seed %d", name, seed)
    result = make_int8(context).quantization
    variant = result.variants[asked.get("mode", "static")]
    assert variant.agreement is not None, "images are held back"
    row = {
        "file": variant.file,
        **headline(variant.metrics, context.config.evaluation.distance),
        "agreement": asdict(variant.agreement),
        "settings": settings,
        "int8_convolutions": result.report.int8_convolutions,
        "convolutions": result.report.convolutions,
        "scan": None if result.scan is None else asdict(result.scan),
    }
    write_json(folder / RESULT, row)
    return row


def accuracy_table(options: argparse.Namespace, rows: dict[str, list[dict[str, Any]]]) -> Table:
    """Return a table of the rows: the mean and, for several seeds, the standard deviation."""
    table = Table(title=f"{options.checkpoint.name} on {options.data.name}, cosine distance")
    table.add_column("model", no_wrap=True)
    headings = ("seeds", "int8 convolutions", "mAP", "rank-1", "cosine, mean", "cosine, least")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, seeds in rows.items():
        agreements = [seed["agreement"] for seed in seeds if seed.get("agreement")]
        table.add_row(
            name,
            str(len(seeds)),
            str(seeds[0].get("int8_convolutions", 0)),
            spread([100 * seed["mAP"] for seed in seeds], 2),
            spread([100 * seed["rank1"] for seed in seeds], 2),
            spread([1 - a["mean_cosine_error"] for a in agreements], 4),
            spread([1 - a["largest_cosine_error"] for a in agreements], 3),
        )
    return table


def scan_table(scan: dict[str, Any], most: int) -> Table:
    """Return a table of the layers in which int8 costs most."""
    title = (
        f"1000 x mean (1 - cosine), before bias correction: everything int8 "
        f"{1000 * scan['everything']:.2f}, the input alone {1000 * scan['image']:.2f}, operators "
        f"outside all layers alone {1000 * scan['operators']:.2f}"
    )
    table = Table(title=title)
    table.add_column("layer", no_wrap=True)
    for heading in ("layers", "alone", "saved", "kB more in float", "M MACs"):
        table.add_column(heading, justify="right")
    for layer in scan["layers"][:most]:
        table.add_row(
            layer["layer"],
            str(layer["weighted_layers"]),
            f"{1000 * layer['alone']:.3f}",
            f"{1000 * layer['saved']:.3f}",
            f"{3 * layer['weights'] / 1e3:.1f}",
            f"{layer['macs'] / 1e6:.2f}",
        )
    return table


def spread(values: list[float], digits: int) -> str:
    """Write a mean and its standard deviation."""
    if not values:
        return ""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {stdev(values):.{digits}f}"


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

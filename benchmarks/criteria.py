"""What each criterion leaves of a model's accuracy after one cut, without any training.

    python -m benchmarks.criteria --model x1_0.pt --data cuhk03-dev --output runs/criteria
    python -m benchmarks.criteria ... --criteria l2,reconstruction --targets osnet_x0_5
    python -m benchmarks.criteria --output runs/criteria --table

``first`` is the first of K cuts to the last target; the targets are reached in one cut. Measured
after the surgery and after reconstruction. A row that is there is not measured again; one of other
settings is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.command import at_least, is_there, listed, logger, make_parser
from pipeline.command import run_guarded
from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.settings.cut_sections import PruneStage
from pipeline.settings.data import DataSettings
from pipeline.stages.channel_scores import scoring_data
from pipeline.target_widths import TRACE_SIZE
from prune.criteria import CRITERIA
from prune.criteria.criterion import ScoreRequest
from prune.layer_widths import Widths, layer_widths
from prune.nni_backend import find_groups
from prune.plans import linear_plan
from prune.reconstruct import reconstruct
from prune.surgery import cut
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file, write_json
from reid_edge.data.loaders import stack_images
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import label_tensors
from reid_edge.inference.features import embed_batches
from reid_edge.metrics import evaluate_ranking
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.models.registry import ARCHITECTURES, build_model

BATCH = 64
SEED = 0


@dataclass(frozen=True)
class Bench:
    """What all rows share.

    Attributes:
        model: of full width.
        context: of a stage ``prune``.
        groups: layers whose channels go together.
        test: images (N, 3, H, W) of query and gallery.
        reconstruction: images (N, 3, H, W) for least squares.
    """

    model: nn.Module
    context: StageContext[PruneStage]
    groups: list[tuple[str, ...]]
    test: dict[str, Tensor]
    reconstruction: Tensor


def main(options: argparse.Namespace) -> None:
    """Measure the rows that are not there yet, print the table."""
    if not options.table:
        measure(options)
    Console().print(table(options.output))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, help="checkpoint of the full-width model")
    parser.add_argument("--data", type=Path, help="folder in the Market-1501 layout")
    parser.add_argument("--output", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--criteria", type=listed("criterion", CRITERIA), default=list(CRITERIA))
    parser.add_argument(
        "--targets",
        type=listed("architecture", ARCHITECTURES),
        default=["osnet_x0_75", "osnet_x0_5"],
    )
    parser.add_argument("--iterations", type=at_least(1), default=3, help="K")
    parser.add_argument(
        "--images", type=at_least(2), default=128, help="for scores and reconstruction"
    )
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table and (options.model is None or options.data is None):
        parser.error("--model and --data are needed to measure")
    return options


def measure(options: argparse.Namespace) -> None:
    """Measure every criterion at every width, the narrowest first."""
    torch.set_num_threads(options.threads)
    bench = make_bench(options)
    options.output.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": hash_file(options.model),
        "data": str(options.data.absolute()),
        "images": options.images,
    }
    for label, widths in reversed(planned(bench.model, options).items()):
        for criterion in options.criteria:
            path = options.output / f"{label}-{criterion}.json"
            if not is_there(path, settings):
                row = measure_row(bench, widths, criterion)
                named = {"cut": label, "criterion": criterion, "settings": settings}
                write_json(path, {**named, **row})
                logger.info("%s, %s: %s", label, criterion, row)


def make_bench(options: argparse.Namespace) -> Bench:
    """Load the model and the images."""
    model, info = load_checkpoint(options.model)
    height, width = info.input_size
    data = read_market1501(options.data)
    config = config_class()(
        seed=SEED, data=DataSettings(root=options.data, height=height, width=width, workers=0)
    )
    context = StageContext(
        "prune",
        config,
        PruneStage(),
        options.output,
        data,
        options.model,
        None,
        "",
        info.input_size,
    )
    test = {
        name: stack_images(images, height=height, width=width)
        for name, images in (("query", data.query), ("gallery", data.gallery))
    }
    reconstruction = torch.cat(context.training_batches(options.images, "reconstruct"))
    groups = find_groups(model, torch.zeros(2, 3, *TRACE_SIZE))
    return Bench(model, context, groups, test, reconstruction)


def planned(model: nn.Module, options: argparse.Namespace) -> dict[str, Widths]:
    """Return the widths to cut to, by what to call them."""
    classes = model.get_submodule("classifier").weight.shape[0]  # type: ignore[index]
    targets = {
        name: layer_widths(build_model(name, num_classes=int(classes))) for name in options.targets
    }
    last = options.targets[-1]
    plan = linear_plan(layer_widths(model), targets[last], options.iterations)
    return {f"first_of_{options.iterations}_to_{last}": plan[0], **targets}


def measure_row(bench: Bench, widths: Widths, criterion: str) -> dict[str, Any]:
    """Cut once and reconstruct; return the mAP after each step, and the CPU seconds of each."""
    settings = PruneStage(criterion=criterion, criterion_images=len(bench.reconstruction))
    started = time.process_time()
    data = scoring_data(bench.context, settings, "scores", 1)
    seconds = {"scores": time.process_time() - started}
    chosen = CRITERIA.load(criterion)

    def timed_score(request: ScoreRequest) -> dict[str, Tensor]:
        started = time.process_time()
        scores = chosen.score(request)
        seconds["scores"] += time.process_time() - started
        return scores

    generator = torch.Generator().manual_seed(SEED)
    result = cut(
        bench.model,
        widths,
        example=torch.randn(2, 3, *TRACE_SIZE, generator=generator),
        check_input=bench.reconstruction[:4],
        criterion=replace(chosen, score=timed_score),
        data=data,
        seed=SEED,
        groups=bench.groups,
    )
    accuracy = {"surgery": score(bench, result.model)}
    started = time.process_time()
    reconstruct(result.model, bench.model, result.kept, bench.reconstruction)
    seconds["reconstruction"] = time.process_time() - started
    accuracy["reconstruction"] = score(bench, result.model)
    return {"mAP": accuracy, "cpu_seconds": seconds}


def score(bench: Bench, model: nn.Module) -> float:
    """Return the mAP, cosine distance."""
    features = {
        name: embed_batches(model, torch.split(images, BATCH))
        for name, images in bench.test.items()
    }
    data = bench.context.data
    result = evaluate_ranking(
        features["query"],
        *label_tensors(data.query),
        features["gallery"],
        *label_tensors(data.gallery),
        distance="cosine",
        protocol=data.protocol,
    )
    return result.mean_average_precision


def table(output: Path) -> Table:
    """Return what the folder holds, one line a criterion, the best first."""
    rows = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
    if not rows:
        raise PipelineError(f"{output}: no rows there yet; leave --table out to measure some")
    cuts = sorted(
        {row["cut"] for row in rows}, key=lambda name: (not name.startswith("first"), name)
    )
    shown = Table(title="mAP after surgery / after reconstruction", title_justify="left")
    shown.add_column("criterion")
    for name in cuts:
        shown.add_column(name, justify="right")
    shown.add_column("CPU seconds for scores", justify="right")
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(row["criterion"], {})[row["cut"]] = row
    for criterion, by_cut in sorted(
        found.items(),
        key=lambda item: -min(row["mAP"]["reconstruction"] for row in item[1].values()),
    ):
        cells = [
            f"{100 * by_cut[name]['mAP']['surgery']:.1f} / "
            f"{100 * by_cut[name]['mAP']['reconstruction']:.1f}"
            if name in by_cut
            else ""
            for name in cuts
        ]
        seconds = max(row["cpu_seconds"]["scores"] for row in by_cut.values())
        shown.add_row(criterion, *cells, f"{seconds:.1f}")
    return shown


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

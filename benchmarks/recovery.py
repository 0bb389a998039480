"""How much of the full-width model's accuracy a compact model gets back, and by what.

    python -m benchmarks.recovery --teacher x1_0.pth --data cuhk03-dev --output runs/recovery
    python -m benchmarks.recovery ... --rows ours,hints --seeds 0,1,2 --passes 10
    python -m benchmarks.recovery --output runs/recovery --table

Every row starts from the same full-width model and sees the training images equally often after
its first cut: ``--tuning`` times after each cut, the rest in ``finetune``. A row is a run of the
pipeline in a folder of its own; a stopped benchmark is resumed, and a result of other settings is
refused. Torch-Pruning's rows need ``pip install torch-pruning==1.6.1``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import at_least, is_there, listed, logger, make_parser, size, whole_numbers
from benchmarks.recovery_rows import ROWS, Row
from benchmarks.torch_pruning_cut import torch_pruning_cut
from pipeline.command import run_guarded
from pipeline.config import Config
from pipeline.context import StageContext
from pipeline.dependencies import fingerprint, stage_settings
from pipeline.engine import run_stages
from pipeline.plan import can_resume, mark_started
from pipeline.run_dir import CHECKPOINT, METRICS, RunDir
from pipeline.run_images import read_images, split_validation
from pipeline.settings_io import load_config
from pipeline.stage import JsonDict
from pipeline.stage_results import headline
from pipeline.stages import default_stages
from pipeline.stages.finetune import FINETUNE
from pipeline.stages.iteration import read_metrics
from pipeline.stages.prune import PRUNE, prune_stage
from reid_edge.core.errors import CheckpointError, PipelineError
from reid_edge.core.io import hash_file, write_json
from reid_edge.data.schema import count_persons
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.registry import build_model

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "osnet_x0_5.yaml"
AUGMENTATION = "augmentation.crop_padding=8"
RESULT = "recovery.json"


@dataclass(frozen=True)
class Job:
    """One row with one seed.

    Attributes:
        row: what it is.
        folder: of its run.
        config: its settings.
        settings: those that its result depends on, the teacher by its content.
    """

    row: Row
    folder: Path
    config: Config
    settings: JsonDict


def main(options: argparse.Namespace) -> None:
    """Run the rows that are not there yet, print the table."""
    if not options.table:
        jobs = [make_job(name, seed, options) for seed in options.seeds for name in options.rows]
        due = [job for job in jobs if not is_there(job.folder / RESULT, job.settings)]
        for job in due:
            run_row(job, options)
    Console().print(table(options.output))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--teacher", type=Path, help="checkpoint of the full-width model")
    parser.add_argument("--data", type=Path, help="folder in the Market-1501 layout")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--rows", type=listed("row", ROWS), default=list(ROWS))
    parser.add_argument("--seeds", type=whole_numbers, default=[0], help="comma-separated")
    parser.add_argument("--target", default="osnet_x0_5")
    parser.add_argument("--iterations", type=at_least(1), default=3, help="K")
    parser.add_argument(
        "--passes", type=at_least(0), default=10, help="over the images, after a cut"
    )
    parser.add_argument("--tuning", type=at_least(0), default=2, help="of them after each cut")
    parser.add_argument("--size", type=size, default=(128, 64), help="height,width")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--label", default="", help="tells variants of a row apart")
    parser.add_argument("--set", action="append", default=[], help="key.path=value for all rows")
    parser.add_argument("--threads", type=at_least(1), default=torch.get_num_threads())
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    if not options.table and (options.teacher is None or options.data is None):
        parser.error("--teacher and --data are needed to run rows")
    if options.passes < options.iterations * options.tuning:
        parser.error(
            f"--passes {options.passes} are fewer than {options.iterations} cuts with --tuning "
            f"{options.tuning} passes each"
        )
    return options


def make_job(name: str, seed: int, options: argparse.Namespace) -> Job:
    """Return what a row with a seed is to do."""
    label = f"-{options.label}" if options.label else ""
    folder = options.output / (
        f"{name}{label}-{options.target}-k{options.iterations}-{options.passes}passes-seed{seed}"
    )
    config = make_config(ROWS[name], seed, options)
    if not options.teacher.is_file():
        raise CheckpointError(f"{options.teacher}: no such file; --teacher must name a checkpoint")
    settings: JsonDict = {
        "teacher": hash_file(options.teacher),
        "data.root": str(config.data.root),
    }
    for stage in config.stages:
        settings |= stage_settings(config, config.declared[stage])
    return Job(ROWS[name], folder, config, settings)


def run_row(job: Job, options: argparse.Namespace) -> None:
    """Run one row with one seed, and write its result."""
    row, config = job.row, job.config
    logger.info("%s", job.folder.name)
    run = RunDir(job.folder, config.declared)
    run.create()
    with run.locked():
        if row.from_scratch:
            run_from_scratch(config, run)
        else:
            run_stages(config, run)
    write_json(
        job.folder / RESULT,
        {
            "says": row.says + (f" ({options.label})" if options.label else ""),
            "target": config.model.architecture if row.uncut else options.target,
            "iterations": 1 if row.one_cut or row.cuts_nothing else options.iterations,
            "passes": options.passes,
            "seed": config.seed,
            "settings": job.settings,
            **accuracies(run, config),
        },
    )


def make_config(row: Row, seed: int, options: argparse.Namespace) -> Config:
    """Return the settings of a row."""
    cuts = 1 if row.one_cut else options.iterations
    last = options.passes - options.iterations * options.tuning
    tuning = options.iterations * options.tuning // cuts
    height, width = options.size
    overrides = [
        f"seed={seed}", f"threads={options.threads}", f"data.root={options.data}",
        f"data.height={height}", f"data.width={width}", "data.workers=1",
        "train.epochs=0", f"train.pretrained={options.teacher}",
        f"prune.target={options.target}", f"prune.iterations={cuts}",
        f"prune.tuning.epochs={tuning}", f"prune.tuning.{AUGMENTATION}",
        f"finetune.epochs={options.passes if row.cuts_nothing else last}",
        f"finetune.{AUGMENTATION}",
        f"prune.tuning.precision={options.precision}", f"finetune.precision={options.precision}",
        *row.overrides, *options.set,
    ]  # fmt: skip
    stages = "train,finetune" if row.uncut else "train,prune,finetune"
    declared = default_stages()
    if row.torch_pruning:
        declared = declared.with_stage(prune_stage(torch_pruning_cut, version="Torch-Pruning"))
    return load_config(CONFIG, overrides, stages, declared=declared)


def run_from_scratch(config: Config, run: RunDir) -> None:
    """Fine-tune a compact model that starts from random weights under the teacher's eye."""
    run_stages(config.model_copy(update={"stages": ("train",)}), run)
    whole, _ = read_images(config, run)
    data, validation = split_validation(config, whole)
    torch.manual_seed(config.seed)
    target = str(config.of(PRUNE).target)
    model = build_model(
        target,
        num_classes=count_persons(data.train),
        embedding_dim=config.model.embedding_dim,
    )
    parent = run.stage_dir("random") / CHECKPOINT
    teacher = run.stage_dir("train") / CHECKPOINT
    size = config.data.height, config.data.width
    save_checkpoint(parent, model, describe(model, target, input_size=size))
    context = StageContext(
        stage="finetune",
        config=config,
        settings=config.of(FINETUNE),
        folder=run.stage_dir("finetune"),
        data=data,
        parent=parent,
        teacher=teacher,
        parent_hash="",
        input_size=size,
        validation=validation,
    )
    wanted = fingerprint(stage_settings(config, FINETUNE), {"teacher": hash_file(teacher)})
    if not can_resume(run, "finetune", wanted):
        run.set_aside("finetune")
    mark_started(context.folder, wanted)
    FINETUNE.run(context)


def accuracies(run: RunDir, config: Config) -> dict[str, Any]:
    """Return what a run's stages and iterations scored."""

    def scored(stage: str) -> dict[str, float]:
        return headline(read_metrics(run.stage_dir(stage) / METRICS), config.evaluation.distance)

    reports = run.stage_dir("prune").glob("iteration_*/iteration.json")
    iterations = [json.loads(path.read_text()) for path in reports]
    iterations.sort(key=lambda report: int(report["iteration"]))
    return {
        "teacher": scored("train"),
        "result": scored("finetune"),
        "by_iteration": [report["accuracy"] for report in iterations],
        "seconds": [report["seconds"] for report in iterations],
    }


def table(output: Path) -> Table:
    """Return what the folder holds, one line a row, seeds averaged."""
    found: dict[tuple[str, str, int, int, str], dict[int, dict[str, Any]]] = {}
    for path in sorted(output.glob(f"*/{RESULT}")):
        content = json.loads(path.read_text())
        what = content["target"], content["says"], content["iterations"], content["passes"]
        found.setdefault((*what, _experiment(content)), {})[content["seed"]] = content
    if not found:
        raise PipelineError(f"{output}: no rows there yet; leave --table out to run some")
    shown = Table(title="Accuracy after the cut", title_justify="left")
    for heading in ("target", "row", "K", "passes", "seeds", "full width", "mAP", "rank-1"):
        shown.add_column(heading, justify="left" if heading in ("target", "row") else "right")
    shown.add_column("mAP after each cut")
    rows = [(key, list(by_seed.values())) for key, by_seed in found.items()]
    for key, contents in sorted(rows, key=lambda row: -_mean(row[1], "mAP")):
        target, says, iterations, passes, _ = key
        shown.add_row(
            target, says, str(iterations), str(passes), str(len(contents)),
            f"{mean(c['teacher']['mAP'] for c in contents):.1%}",
            _mean_and_spread(contents, "mAP"), _mean_and_spread(contents, "rank1"),
            _steps(contents[0]),
        )  # fmt: skip
    return shown


def _experiment(content: dict[str, Any]) -> str:
    """Return what two results have in common that differ in the seed alone."""
    # How many cuts there would have been says nothing where none was made.
    without = {"seed"} if content["by_iteration"] else {"seed", "prune"}
    settings = {key: value for key, value in content["settings"].items() if key not in without}
    return fingerprint(settings, {})


def _mean(contents: list[dict[str, Any]], key: str) -> float:
    return float(mean(content["result"][key] for content in contents))


def _mean_and_spread(contents: list[dict[str, Any]], key: str) -> str:
    values = [100 * content["result"][key] for content in contents]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def _steps(content: dict[str, Any]) -> str:
    steps = ("after_surgery", "after_reconstruction", "after_tuning")
    return ", ".join(
        "/".join(f"{100 * cut[step]['mAP']:.1f}" for step in steps if step in cut)
        for cut in content["by_iteration"]
    )


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

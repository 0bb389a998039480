"""The work of ``reid-edge compress``: arguments to settings, the time, the run, the verdict."""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from pipeline.compress_verdict import compress_lines, named_file
from pipeline.config import Config
from pipeline.model_hash import hash_model
from pipeline.preflight import check_settings
from pipeline.report.contents import Report
from pipeline.run_dir import CHECKPOINT, RunDir
from pipeline.run_images import read_existing_images
from pipeline.settings_io import load_config, split_names
from pipeline.shipped_configs import find_config
from pipeline.stage_results import Result
from pipeline.time_budget import Passes, Speeds, Work, choose_passes
from prune.layer_widths import layer_widths
from reid_edge.adaptation.site_views import measure_separation
from reid_edge.adaptation.stability import Stability, compare_stability
from reid_edge.cli.model_options import parse_input_size
from reid_edge.cli.progress_bars import progress_bars
from reid_edge.core.backends import load_model_file
from reid_edge.core.devices import choose_device
from reid_edge.core.errors import ModelError, PipelineError
from reid_edge.core.io import hash_file, write_bytes
from reid_edge.core.model_file import LoadOptions
from reid_edge.core.tables import output_console
from reid_edge.data.held_out import hold_out
from reid_edge.data.paths import existing_folder
from reid_edge.data.sources import find_reader, read_source
from reid_edge.inference.embedder import load_embedder
from reid_edge.models.architecture import CLASSIFIER
from reid_edge.models.registry import ARCHITECTURES, build_model

COMPRESSION_FILE = "compression.json"
SUMMARY_FILE = "summary.txt"
CONFIG = Path("configs/compress.yaml")
TRACKLETS, UNLABELLED = "tracklets", "unlabelled"
FIRST_STAGES = ("train", "adapt")
# Images by which it is seen whether they show several persons.
LOOKED_AT = 128

logger = logging.getLogger("pipeline.compress")


class Request(Result):
    """What a compression was asked for.

    Attributes:
        model: SHA-256 of the model's file.
        images: folder of the images.
        target: architecture of the small model.
        hours: time for all of it.
        formats: of the files.
        layout: of the folder.
        input_size: (height, width).
        seed: of all random draws.
        adapt: whether the model may be adapted.
    """

    model: str
    images: str
    target: str
    hours: float
    formats: tuple[str, ...]
    layout: str
    input_size: tuple[int, int]
    seed: int
    adapt: bool


class Compression(Result):
    """The course of a compression (``compression.json``).

    Attributes:
        request: what was asked for.
        architecture: of the model.
        embedding_dim: of the model.
        speeds: measured on this machine.
        problem: why the images are not of several persons, in a clause; empty if they may be.
        chosen: epochs that were chosen before the run.
        after_adapting: epochs that were chosen for the rest, once the adaptation's time was known.
        stability: of the named file of the finished run; None before.
        compared: hash of the models and the images that ``stability`` is of.
        seconds: that were spent, in all calls of the command.
        done: whether the run is finished.
    """

    request: Request
    architecture: str
    embedding_dim: int
    speeds: Speeds
    problem: str
    chosen: Passes
    after_adapting: Passes | None = None
    stability: Stability | None = None
    compared: str = ""
    seconds: float = 0.0
    done: bool = False

    @property
    def passes(self) -> Passes:
        """Return the epochs that count now."""
        return self.after_adapting or self.chosen


def compress(options: argparse.Namespace) -> None:
    """Run the stages within the time and print the first lines of the report.

    Raises:
        ReidError: the model, the images or the folder cannot be used, or the time is too short.
    """
    from pipeline.engine import run_stages
    from pipeline.followed_run import at_work, run_followed
    from pipeline.report.live_page import live_page
    from pipeline.report.show import print_results

    started = time.monotonic()
    target = options.target
    run = RunDir(options.output or Path(f"{options.model.stem}-{target}"))
    run.check()
    resumed = (run.path / COMPRESSION_FILE).is_file()
    compression = _resume_or_begin(options, run)
    # A process that was killed has not written what it spent.
    finished = sum(record.seconds for record in run.records().values())
    former = max(compression.seconds, finished)

    def save(**changed: Any) -> Compression:
        spent = former if compression.done else former + time.monotonic() - started
        saved = compression.model_copy(update={"seconds": spent, **changed})
        write_bytes(run.path / COMPRESSION_FILE, saved.to_json())
        return saved

    with at_work(run):
        if resumed:
            logger.info("compress: goes on with what was chosen: %s", _words(compression.passes))
        else:
            _log_choice(compression)
        compression = save()
        try:
            if compression.chosen.adapt and compression.after_adapting is None:
                config = make_config(compression, options)
                first = config.model_copy(update={"stages": FIRST_STAGES})
                with progress_bars() as work, live_page(config, run) as progress:
                    run_stages(first, run, progress=progress, work=work)
                compression = save(
                    after_adapting=_choose_again(compression, config, former, started)
                )
            config = make_config(compression, options)
            report = run_followed(config, run)
        finally:
            compression = save()
        stability, compared = _compare_stability(compression, config, run, report)
        compression = save(done=True, stability=stability, compared=compared)
        lines = compress_lines(
            report, stability, compression.request.hours, compression.seconds, compression.problem
        )
        text = "\n".join(lines)
        write_bytes(run.path / SUMMARY_FILE, f"{text}\n".encode())
        output_console().print(f"{text}\n", markup=False, highlight=False, soft_wrap=True)
        print_results(run, report)


def _resume_or_begin(options: argparse.Namespace, run: RunDir) -> Compression:
    """Read how far a compression is, or measure the time of a step and choose epochs.

    Raises:
        PipelineError: the folder has a compression of other arguments, the time is too short, or a
            stage cannot do its work.
    """
    size = parse_input_size(options.input_size)
    assert size is not None, "it has a default"
    folder = existing_folder(options.images)
    layout = options.layout or _recognise(folder)
    request = Request(
        model=hash_file(options.model),
        images=str(folder.absolute()),
        target=options.target,
        hours=options.hours,
        formats=split_names(options.formats),
        layout=layout,
        input_size=size,
        seed=options.seed,
        adapt=options.adapt,
    )
    path = run.path / COMPRESSION_FILE
    if path.is_file():
        former = _read(path)
        differing = [
            name for name in Request.model_fields
            if getattr(former.request, name) != getattr(request, name)
        ]  # fmt: skip
        if differing:
            raise PipelineError(
                f"{run.path}: was begun with another {differing[0]}; give the same command again, "
                "or another --output"
            )
        return former
    from pipeline.measured_speed import measure_speeds
    from pipeline.settings.data import DataSettings

    model, architecture = load_model(options)
    classifier = model.get_submodule(CLASSIFIER)
    assert isinstance(classifier, nn.Linear), "every architecture has one"
    check_target(model, architecture, options.target, classifier.in_features)
    data = hold_out(read_source(layout, folder), DataSettings().test_share, seed=0)
    separation = measure_separation(
        model,
        data.train,
        height=size[0],
        width=size[1],
        seed=options.seed,
        device=choose_device("auto"),
        most=LOOKED_AT,
    )
    logger.info("compress: measuring the time of a step on this machine")
    speeds = measure_speeds(
        model,
        options.target,
        [image.path for image in data.train],
        input_size=size,
        device="auto",
    )
    work = Work(images=len(data.train), apart=len(data.query), adapts=options.adapt)
    chosen = choose_passes(speeds, work, 3600 * options.hours)
    begun = Compression(
        request=request,
        architecture=architecture,
        embedding_dim=classifier.in_features,
        speeds=speeds,
        problem=separation.problem,
        chosen=chosen,
    )
    check_settings(make_config(begun, options))  # of all stages, before the first one runs
    return begun


def _log_choice(compression: Compression) -> None:
    """Log how a compression begins, once its folder with the log file is there."""
    if compression.problem:
        logger.warning("compress: %s", compression.problem)
    speeds = compression.speeds
    logger.info(
        "compress: a step of 64 images takes %.2f s with the full-width model and %.2f s with the "
        "compact one (%s); chosen for %g h: %s",
        64 * speeds.adapt, 64 * speeds.finetune, speeds.precision,
        compression.request.hours, _words(compression.chosen),
    )  # fmt: skip


def make_config(compression: Compression, options: argparse.Namespace) -> Config:
    """Return the settings of the run: configs/compress.yaml with what was given and chosen.

    Raises:
        PipelineError: a format or the target is not known.
    """
    request, passes = compression.request, compression.passes
    height, width = request.input_size
    stages = ["train", "adapt", "prune", "finetune", "quantize", "export", "benchmark"]
    if not passes.adapt:
        stages.remove("adapt")
    values: dict[str, Any] = {
        "name": f"{options.model.stem}-{request.target}",
        "seed": request.seed,
        "data.root": Path(request.images),
        "data.format": request.layout,
        "data.height": height,
        "data.width": width,
        "model.architecture": compression.architecture,
        "model.embedding_dim": compression.embedding_dim,
        "train.pretrained": options.model.absolute(),
        "prune.target": request.target,
        "prune.tuning.epochs": passes.tuning,
        "finetune.epochs": passes.finetune,
        "export.files": list(request.formats),
    }
    if passes.adapt:
        values["adapt.epochs"] = passes.adapt
    for training in ("adapt", "prune.tuning", "finetune"):
        values[f"{training}.precision"] = compression.speeds.precision
    return load_config(find_config(CONFIG), stages=",".join(stages), values=values)


def _compare_stability(
    compression: Compression, config: Config, run: RunDir, report: Report
) -> tuple[Stability, str]:
    """Compare the file that is named with its teacher, if that was not done with these files.

    Returns:
        The comparison, and a hash of what it is of.
    """
    teacher = run.path / ("adapt" if "adapt" in config.stages else "train") / CHECKPOINT
    named = named_file(report)
    student = run.path / (f"finetune/{CHECKPOINT}" if named is None else named.name)
    with progress_bars() as work:
        data, data_hash = read_existing_images(config, run, work)
        assert data is not None, "the run has measured its models on them"
        compared = hashlib.sha256(
            f"{hash_model(teacher)} {hash_model(student)} {data_hash}".encode()
        ).hexdigest()
        if compression.stability is not None and compression.compared == compared:
            return compression.stability, compared
        module = load_model_file(teacher).module
        assert module is not None, "a checkpoint has a module"
        size = config.data.height, config.data.width
        embedder = load_embedder(student, input_size=size)
        found = compare_stability(
            module,
            lambda images: torch.from_numpy(embedder.embed(images.numpy())),
            data,
            height=size[0],
            width=size[1],
            seed=config.seed,
            device=choose_device("auto"),
            work=work,
        )
    return found, compared


def _choose_again(
    compression: Compression, config: Config, former: float, started: float
) -> Passes:
    """Choose the passes of the compact model again, once the adaptation's time is known."""
    left = 3600 * compression.request.hours - former - (time.monotonic() - started)
    data = hold_out(
        read_source(config.data.format, Path(compression.request.images)),
        config.data.test_share,
        seed=0,
    )
    work = Work(images=len(data.train), apart=len(data.query), adapts=False)
    before = compression.chosen
    try:
        again = choose_passes(compression.speeds, work, left)
    except PipelineError:
        # What has been done is not thrown away: the shortest way to the end, and it is said.
        again = Passes(adapt=0, tuning=1, finetune=1, seconds=0.0)
        logger.warning(
            "compress: the adaptation took longer than planned, and the rest does not fit into "
            "%g h; it takes two passes all the same",
            compression.request.hours,
        )
    passes = again.model_copy(update={"adapt": before.adapt})
    if (passes.tuning, passes.finetune) != (before.tuning, before.finetune):
        logger.info("compress: %.0f min are left; chosen anew: %s", left / 60, _words(passes))
    return passes


def load_model(options: argparse.Namespace) -> tuple[nn.Module, str]:
    """Load the model that is to be compressed, and its architecture's name.

    Raises:
        CheckpointError: the file is missing, damaged or not safe, or does not say what it is.
    """
    loaded = load_model_file(options.model, LoadOptions(architecture=options.architecture))
    assert loaded.module is not None, "a checkpoint has a module"
    return loaded.module, loaded.metadata.architecture


def check_target(model: nn.Module, architecture: str, target: str, embedding_dim: int) -> None:
    """Check that the target is a narrower form of the model, as far as names and widths tell.

    Raises:
        ModelError: the target is not known, that of the model itself, of another family, or wider.
    """
    source, wanted = ARCHITECTURES.load(architecture), ARCHITECTURES.load(target)
    if architecture == target:
        raise ModelError(
            f"--target {target} is the architecture of the model, so there is nothing to remove; "
            "choose a smaller one of its family (reid-edge models)"
        )
    if source.family != wanted.family:
        same = ", ".join(
            name for name, one in ARCHITECTURES.items()
            if one.family == source.family and name != architecture
        )  # fmt: skip
        raise ModelError(
            f"--target {target}: is of the family {wanted.family}, and the model, {architecture}, "
            f"of {source.family}; choose one of {same or 'another model'}"
        )
    now, final = (
        layer_widths(one) for one in (model, build_model(target, embedding_dim=embedding_dim))
    )
    if any(width > now.get(name, width) for name, width in final.items() if name != CLASSIFIER):
        raise ModelError(
            f"--target {target} is wider than the model, {architecture}; choose a smaller one of "
            "its family (reid-edge models)"
        )


def _recognise(folder: Path) -> str:
    """Return "tracklets" where the folder looks so, else "unlabelled"."""
    return TRACKLETS if find_reader(TRACKLETS).looks_like(folder) else UNLABELLED


def _read(path: Path) -> Compression:
    try:
        return Compression.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PipelineError(
            f"{path}: damaged; choose another --output, or remove the folder and begin again"
        ) from error


def _words(passes: Passes) -> str:
    adapt = f"{passes.adapt} epochs of adaptation" if passes.adapt else "no adaptation"
    return (
        f"{adapt}, {passes.tuning} after the cut and {passes.finetune} of fine-tuning, about "
        f"{passes.seconds / 60:.0f} min"
    )

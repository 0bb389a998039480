"""How long stages will take: as in an earlier run on the same images, or from a measurement."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.plan import Plan, Step
from pipeline.run_dir import SUPERSEDED, RunDir
from pipeline.stage import AnyStage, StageWork
from pipeline.stage_results import Hardware, StageRecord
from quantize.machine import processor_name
from reid_edge.core.devices import Precision, choose_device
from reid_edge.data.schema import ReidData

logger = logging.getLogger(__name__)

TIMED_IMAGES = 16
# Half of the widths are about a third of the operations, and of the time.
COMPACT_SHARE = 0.35


@dataclass(frozen=True)
class Estimate:
    """How long a stage takes.

    Attributes:
        seconds: about.
        source: where the number comes from, in words.
    """

    seconds: float
    source: str


@dataclass(frozen=True)
class Work(StageWork):
    """What a stage does, and with which model.

    Attributes:
        compact: whether most of it is done by the compact model.
    """

    compact: bool = False

    def seconds(self, training: float, evaluating: float) -> float:
        """Return the time, given the seconds of an image at full width."""
        share = COMPACT_SHARE if self.compact else 1.0
        return share * (self.trained * training + self.evaluated * evaluating)


@dataclass(frozen=True)
class Speed:
    """Seconds of one image through the full-width model: a training step, and an embedding."""

    training: float
    evaluating: float


def estimate_times(
    config: Config, run: RunDir, plan: Plan, data: ReidData, data_hash: str
) -> dict[str, Estimate]:
    """Estimate the seconds of the stages that will run, in their order.

    Of an earlier run of a stage on the same images, here or in a folder beside the run, the time
    is taken if device, processor and number of threads are the same; where other settings make
    more or less work of it, in proportion. Otherwise a training step and an embedding of the
    full-width model are measured with the run's number of threads, which takes seconds; loading
    images, and what a stage does beside training and measuring, is not in that number.

    Args:
        config: all settings.
        run: the run's folder; it is only read.
        plan: of the command.
        data: the images, without the validation identities.
        data_hash: of the images.
    """
    hardware = hardware_of(config)
    measured: dict[Precision, Speed] = {}
    estimates = {}
    after_cut = False
    for step in plan.steps:
        stage = config.declared[step.stage]
        after_cut = after_cut or stage.cuts
        if step.action == "reuse":
            continue
        work = stage_work(config, stage, data, after_cut=after_cut)
        found = _as_before(config, run, step, work, data, data_hash, hardware, after_cut=after_cut)
        if found is None:
            first: Precision = next(iter(measured), "32-true")
            precision = work.precision or first
            if precision not in measured:
                logger.info("measuring the time of a training step on this machine (%s)", precision)
                measured[precision] = measure_speed(config, precision)
            speed = measured[precision]
            seconds = work.seconds(speed.training, speed.evaluating)
            found = Estimate(seconds, "measured now: training and evaluation alone")
        estimates[step.stage] = found
    return estimates


def stage_work(config: Config, stage: AnyStage, data: ReidData, *, after_cut: bool) -> Work:
    """Return what a stage does.

    Args:
        config: all settings.
        stage: its declaration.
        data: the images.
        after_cut: a stage that cuts is at or before it in this command.
    """
    work = stage.all_work(config, data)
    return Work(work.trained, work.evaluated, work.precision, compact=after_cut)


def _as_before(
    config: Config,
    run: RunDir,
    step: Step,
    work: Work,
    data: ReidData,
    data_hash: str,
    hardware: Hardware,
    *,
    after_cut: bool,
) -> Estimate | None:
    """Return the time of the newest earlier run of a stage that can be compared, or None."""
    stage = config.declared[step.stage]
    for path in _earlier(run, step.stage):
        record = _read(path)
        if record is None or record.resumed or record.inputs.get("data") != data_hash:
            continue
        if record.hardware != hardware:
            continue
        if any(record.settings.get(key) != step.settings.get(key) for key in ("model", "devices")):
            continue
        try:
            section = stage.settings.model_validate(record.settings.get(stage.name, {}))
        except ValidationError:  # of another version of the program
            continue
        then = stage_work(
            config.model_copy(update={stage.name: section}), stage, data, after_cut=after_cut
        )
        size, now = record.settings.get("data"), step.settings.get("data")
        pixels = [
            int(one["height"]) * int(one["width"])  # type: ignore[arg-type]
            for one in (now, size)
            if isinstance(one, dict)
        ]
        # A training step is about three times an embedding.
        before = 3 * then.trained + then.evaluated
        ratio = (3 * work.trained + work.evaluated) / before if before else 1.0
        ratio *= pixels[0] / pixels[1] if len(pixels) == 2 else 1.0
        return Estimate(record.seconds * ratio, f"as {path.parent}")
    return None


def _earlier(run: RunDir, stage: str) -> Sequence[Path]:
    """Return the records of a stage here and in the folders beside the run, the newest first."""
    here = run.path.resolve()
    patterns = (f"*/{stage}/stage.json", f"*/{SUPERSEDED}/{stage}-*/stage.json")
    found = [path for pattern in patterns for path in here.parent.glob(pattern)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _read(path: Path) -> StageRecord | None:
    try:
        # What the stage returned is not needed, and its class may not be known.
        return StageRecord.model_validate({**json.loads(path.read_bytes()), "result": {}})
    except (OSError, ValueError, TypeError):
        return None


def hardware_of(config: Config) -> Hardware:
    """Return what a run with these settings computes on."""
    import torch

    device = choose_device(config.device)
    return Hardware(
        device=device,
        processor=torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        threads=config.threads or torch.get_num_threads(),
    )


def measure_speed(config: Config, precision: Precision) -> Speed:
    """Time a training step and an embedding of the full-width model, in seconds an image.

    They are timed with the run's number of threads.
    """
    import torch

    from pipeline.step_times import (
        embedding_step,
        limited_threads,
        random_images,
        seconds_of,
        training_step,
    )
    from reid_edge.models.registry import build_model

    device = choose_device(config.device)
    with torch.random.fork_rng(), limited_threads(config.threads):
        model = build_model(config.model.architecture, num_classes=TIMED_IMAGES).to(device)
        model.to(memory_format=torch.channels_last)
        images = random_images(TIMED_IMAGES, (config.data.height, config.data.width), device)
        return Speed(
            training=seconds_of(training_step(model, images, precision), 1) / TIMED_IMAGES,
            evaluating=seconds_of(embedding_step(model, images), 1) / TIMED_IMAGES,
        )

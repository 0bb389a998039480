"""How often images can be seen within a time budget, from the measured time of a step."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.stage_results import Result
from reid_edge.core.devices import Precision
from reid_edge.core.errors import PipelineError

# Machines are not always as fast as in the measurement: so much of the budget is planned with.
PLANNED_SHARE = 0.8
# Of the time for training, at most so much goes into the adaptation.
ADAPT_SHARE = 0.45
MOST_ADAPT_EPOCHS, FEWEST_ADAPT_EPOCHS = 10, 2
# Passes over the images after the cut; more than forty gain little (docs/results/recovery.md).
MOST_PASSES, FEWEST_PASSES = 40, 2
TUNING_SHARE = 0.3
# Images through the full-width model beside the trainings, as multiples of those set apart: the
# evaluation of every stage and of every file.
EVALUATIONS = 12
# Reconstruction, recalibration, int8, checks and timing of files, as multiples of 256 images.
CALIBRATIONS = 40
CALIBRATION_IMAGES = 256
# Loading libraries, tracing, writing and comparing files, timing them.
FIXED_SECONDS = 240.0


class Speeds(Result):
    """Measured seconds for one image on this machine.

    Attributes:
        load: to read it.
        embed: through the full-width model.
        adapt: a step of the full-width model's training.
        finetune: a step of the compact model's training with the full-width model as teacher.
        cluster: to find its cluster.
        precision: arithmetic of the trainings, as Lightning names it.
        adapt_embed: through the full-width model in that arithmetic, in which an adaptation embeds
            its images; None: as ``embed``.
    """

    load: float
    embed: float
    adapt: float
    finetune: float
    cluster: float
    precision: Precision
    adapt_embed: float | None = None


@dataclass(frozen=True)
class Work:
    """What has to be done.

    Attributes:
        images: to learn from.
        apart: to measure on.
        adapts: whether the model is adapted.
    """

    images: int
    apart: int
    adapts: bool = True


class Passes(Result):
    """How often the images are seen.

    Attributes:
        adapt: epochs of the adaptation; 0: it is left out.
        tuning: epochs after the cut.
        finetune: epochs of the stage ``finetune``.
        seconds: that everything takes by estimate.
    """

    adapt: int
    tuning: int
    finetune: int
    seconds: float


def overhead(speeds: Speeds, work: Work) -> float:
    """Return the seconds that do not depend on the number of epochs."""
    images = EVALUATIONS * work.apart + CALIBRATIONS * CALIBRATION_IMAGES
    return FIXED_SECONDS + images * (speeds.load + speeds.embed)


def adapt_epoch(speeds: Speeds, work: Work) -> float:
    """Return the seconds of an epoch of the adaptation, its clustering counted."""
    embed = speeds.embed if speeds.adapt_embed is None else speeds.adapt_embed
    return work.images * (2 * speeds.load + embed + speeds.adapt + speeds.cluster)


def finetune_epoch(speeds: Speeds, work: Work) -> float:
    """Return the seconds of a pass with the teacher."""
    return work.images * (speeds.load + speeds.finetune)


def choose_passes(speeds: Speeds, work: Work, seconds: float) -> Passes:
    """Choose epochs that fit into a time, with a fifth of it in reserve.

    The adaptation gets at most 45 % of the time for training and at most 10 epochs; it is left out
    where there is not time for two. The rest goes into at most 40 passes of the compact model.

    Args:
        speeds: of this machine.
        work: numbers of images.
        seconds: the budget of what is still to do.

    Raises:
        PipelineError: there is not time for two passes; the message says how long they take.
    """
    fixed, adapting, passing = (
        function(speeds, work) for function in (overhead, adapt_epoch, finetune_epoch)
    )
    free = PLANNED_SHARE * seconds - fixed
    epochs = 0
    if work.adapts:
        epochs = min(MOST_ADAPT_EPOCHS, int(ADAPT_SHARE * free / adapting))
        if epochs < FEWEST_ADAPT_EPOCHS or free - epochs * adapting < FEWEST_PASSES * passing:
            epochs = 0
    passes = min(MOST_PASSES, int((free - epochs * adapting) / passing))
    if passes < FEWEST_PASSES:
        needed = (fixed + FEWEST_PASSES * passing) / PLANNED_SHARE / 3600
        raise PipelineError(
            f"--hours {seconds / 3600:.2g}: {work.images:,} images take {needed:.2f} hours at "
            f"least on this machine; give --hours {needed + 0.01:.2f}, fewer images or a smaller "
            "--input-size"
        )
    tuning = max(1, round(TUNING_SHARE * passes))
    return Passes(
        adapt=epochs,
        tuning=tuning,
        finetune=passes - tuning,
        seconds=fixed + epochs * adapting + passes * passing,
    )

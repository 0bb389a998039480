"""What all ranks share of int8: ranges of activations, embeddings to judge int8 models by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.rank_jobs import Job, job_sender
from quantize.agreement import embed_held_back
from quantize.calibrate import Scheme, observe_share

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from quantize.agreement import AskEmbeddings
    from quantize.calibrate import AskCalibration
    from reid_edge.training.serve import DoJob
    from reid_edge.training.world import World


class CalibrationJob(Job):
    """See :func:`quantize.calibrate.calibrate`."""

    scheme: Scheme


def ask_calibration(context: StageContext[Any]) -> AskCalibration | None:
    """Return what lets all ranks find the ranges of activations."""
    send = job_sender(context, "calibration")
    return send and (lambda model, scheme: send(model, CalibrationJob(scheme=scheme)))


def ask_embeddings(context: StageContext[Any]) -> AskEmbeddings | None:
    """Return what lets all ranks embed the images that int8 models are judged on."""
    send = job_sender(context, "held back")
    return send and (lambda model: send(model, Job()))


def _calibration(world: World, content: dict[str, Any]) -> None:
    from reid_edge.training.jobs import read_job

    model, job = read_job(content, CalibrationJob)
    observe_share(model, job.scheme, world)


def _held_back(world: World, content: dict[str, Any]) -> None:
    from reid_edge.training.jobs import read_job

    embed_held_back(read_job(content, Job)[0], world)


JOBS: Mapping[str, DoJob] = {"calibration": _calibration, "held back": _held_back}

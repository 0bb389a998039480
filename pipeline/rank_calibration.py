"""What all ranks share of int8: ranges of activations, embeddings to judge int8 models by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.rank_jobs import Job, job_sender
from quantize.agreement import embed_held_back
from quantize.calibrate import Scheme, observe_share
from reid_edge.training.serve import SharedWork

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from quantize.agreement import AskEmbeddings
    from quantize.calibrate import AskCalibration


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


WORKS: Mapping[str, SharedWork[Any]] = {
    "calibration": SharedWork(
        CalibrationJob, lambda world, model, job: observe_share(model, job.scheme, world)
    ),
    "held back": SharedWork(Job, lambda world, model, _: embed_held_back(model, world)),
}

"""What all ranks share of a cut: covariances for a criterion, statistics of normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.rank_jobs import Job, job_sender
from prune.covariances import Places, look_at_share
from prune.recalibrate import find_moments
from reid_edge.training.serve import SharedWork

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from prune.covariances import AskCovariances
    from prune.recalibrate import AskMoments


class CovariancesJob(Job):
    """See :func:`prune.covariances.covariances`."""

    places: Places


def ask_covariances(context: StageContext[Any]) -> AskCovariances | None:
    """Return what lets all ranks find what the criterion ``reconstruction`` needs."""
    send = job_sender(context, "covariances")
    return send and (lambda model, places: send(model, CovariancesJob(places=places)))


def ask_moments(context: StageContext[Any]) -> AskMoments | None:
    """Return what lets all ranks find the statistics of normalisations."""
    send = job_sender(context, "moments")
    return send and (lambda model: send(model, Job()))


WORKS: Mapping[str, SharedWork[Any]] = {
    "covariances": SharedWork(
        CovariancesJob, lambda world, model, job: look_at_share(model, job.places, world)
    ),
    "moments": SharedWork(Job, lambda world, model, _: find_moments(model, world)),
}

"""What all ranks share of a cut: covariances for a criterion, statistics of normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.rank_jobs import Job, job_sender
from prune.covariances import Places, look_at_share
from prune.recalibrate import find_moments

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from prune.covariances import AskCovariances
    from prune.recalibrate import AskMoments
    from reid_edge.training.serve import DoJob
    from reid_edge.training.world import World


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


def _covariances(world: World, content: dict[str, Any]) -> None:
    from reid_edge.training.jobs import read_job

    model, job = read_job(content, CovariancesJob)
    look_at_share(model, job.places, world)


def _moments(world: World, content: dict[str, Any]) -> None:
    from reid_edge.training.jobs import read_job

    find_moments(read_job(content, Job)[0], world)


JOBS: Mapping[str, DoJob] = {"covariances": _covariances, "moments": _moments}

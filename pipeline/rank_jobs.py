"""Work of a stage that all ranks share: a model runs on batches that rank zero deals.

Rank zero sends the model when the work begins; ``WORKS`` of :mod:`pipeline.rank_statistics` and
:mod:`pipeline.rank_calibration` is what the others do then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn

    from pipeline.context import StageContext
    from reid_edge.training.world import World


class Job(BaseModel):
    """What is needed beside the model; nothing, if it is of this class."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def job_sender(context: StageContext[Any], kind: str) -> Callable[[nn.Module, Job], World] | None:
    """Return what sends work of a kind to the other ranks and returns all; None: there are none."""
    world = context.world
    if world is None:
        return None

    def send(model: nn.Module, job: Job) -> World:
        from reid_edge.training.jobs import send_job

        send_job(
            world, kind, job, model,
            architecture=context.config.model.architecture, input_size=context.input_size,
        )  # fmt: skip
        return world

    return send

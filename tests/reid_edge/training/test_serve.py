"""What the ranks other than zero do with what rank zero sends."""

import logging
from typing import cast

import torch
from pydantic import BaseModel
from torch import nn

from reid_edge.models import build_model
from reid_edge.training.jobs import send_job
from reid_edge.training.serve import SharedWork, serve
from reid_edge.training.world import END, World


class Work(BaseModel):
    number: int


class Queue:
    """Gives what was sent back to the same process."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, content: bytes) -> None:
        self.sent.append(content)

    def receive(self) -> bytes:
        return self.sent.pop(0)


def test_work_is_done_with_as_many_threads_as_rank_zero_has() -> None:
    model, world = build_model("osnet_x0_25"), cast(World, Queue())
    seen: list[tuple[int, int]] = []

    def note(_world: World, _model: nn.Module, job: Work) -> None:
        seen.append((job.number, torch.get_num_threads()))

    former, log = torch.get_num_threads(), logging.getLogger("reid_edge")
    level = log.level
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            send_job(
                world, "work", Work(number=threads), model,
                architecture="osnet_x0_25", input_size=(32, 16),
            )  # fmt: skip
        world.send(END)
        torch.set_num_threads(3)
        serve(world, works={"work": SharedWork(Work, note)})
    finally:
        torch.set_num_threads(former)
        log.setLevel(level)
    assert seen == [(2, 2), (1, 1)]

"""What the ranks other than zero do: they work with rank zero, until there is no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel
from torch import nn

from reid_edge.training.jobs import EmbedJob, read_fit, read_job, unpack
from reid_edge.training.world import END, World

J = TypeVar("J", bound=BaseModel)


@dataclass(frozen=True)
class SharedWork(Generic[J]):
    """A kind of work that :func:`reid_edge.training.jobs.send_job` sends.

    Attributes:
        job: class of what is sent beside the model.
        share: does the share of this rank.
    """

    job: type[J]
    share: Callable[[World, nn.Module, J], object]


def serve(
    world: World,
    prepare: Callable[[], None] = lambda: None,
    works: Mapping[str, SharedWork[Any]] | None = None,
) -> None:
    """Do what rank zero sends until it has ended.

    Args:
        world: the ranks.
        prepare: is called before the first of it, such as to make images that are not there.
        works: what there is to do by its kind, beside training and embedding.

    Raises:
        ReidError: an image cannot be read, or a training fails; rank zero shows it.
    """
    # Rank zero logs what all do.
    logging.getLogger(__name__.partition(".")[0]).setLevel(logging.ERROR)
    prepared = False
    while (content := world.receive()) != END:
        if not prepared:
            prepare()
            prepared = True
        job = unpack(content)
        torch.set_num_threads(job["threads"])
        if job["kind"] == "fit":
            from reid_edge.training.fit import fit_rank  # Lightning takes seconds to import

            # Nothing is written there but the state of rank zero that all resume from.
            with TemporaryDirectory() as folder:
                model, config, epochs_done = read_fit(job, world, Path(folder))
                fit_rank(model, config, epochs_done=epochs_done)
        elif job["kind"] == "embed":
            from reid_edge.training.shared_embedding import embed_share

            embed_share(world, *read_job(job, EmbedJob))
        else:
            work = (works or {})[job["kind"]]
            model, sent = read_job(job, work.job)
            work.share(world, model, sent)

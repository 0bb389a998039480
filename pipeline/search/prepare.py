"""Laying a search out: what is held back, what is cut, under which limit."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config import Config
from pipeline.images import read_images, split_validation
from pipeline.run_dir import CHECKPOINT, RunDir
from pipeline.search.task import (
    TaskSettings,
    read_settings,
    search_space,
    write_settings,
    write_task,
)
from pipeline.search.variables import default_variables
from pipeline.widths import TRACE_SIZE, final_widths, plan_path, stock_target
from prune.criteria import CRITERIA
from prune.nni_backend import find_groups
from prune.search.space import Patterns
from prune.width_options import width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_json
from reid_edge.core.seeding import derive_seed
from reid_edge.data.identities import split_by_identity
from reid_edge.data.schema import ReidData, Sample, choose_over_cameras, count_persons
from reid_edge.models.checkpoint import load_checkpoint
from reid_edge.models.checkpoint_info import CheckpointInfo
from reid_edge.models.registry import build_model

SEARCH = "search"
TASK = "task"
BEGUN = "search.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """A search that is laid out.

    Attributes:
        folder: of everything it leaves.
        task: folder of the task.
        settings: of the task.
    """

    folder: Path
    task: Path
    settings: TaskSettings


def lay_out(config: Config, run: RunDir) -> Search:
    """Write the task of a search, or find the one that was begun with the same settings.

    A search with other settings, another model or other images is set aside.

    Raises:
        PipelineError: the run has no trained model, there are too few identities, or a search with
            other settings is running.
        PruneError: no widths keep the limit, or a variable's pattern fits no layer.
    """
    record = run.record("train")
    if record is None:
        raise PipelineError(
            f"{run.path}: stage train is not finished, and the search starts from its model; run "
            "it first (--stages train)"
        )
    checkpoint = run.stage_dir("train") / CHECKPOINT
    whole, data_hash = read_images(config, run)
    # The identities set apart judge epochs and budgets later on, so they have no say here.
    data, _ = split_validation(config, whole)
    model, info = load_checkpoint(checkpoint)
    folder = run.path / SEARCH
    begun = _begun(folder)
    limit = begun["settings"]["macs"] if begun else None
    settings, images = _task_settings(config, model, info, limit), _images(config, data)
    # A limit that no widths keep, or a pattern that fits nothing, would fail in every trial.
    space = search_space(settings, model, torch.zeros(1, 3, *info.input_size))
    space.widths(dict.fromkeys(settings.variables, 1.0))
    identity = {
        "settings": settings.model_dump(mode="json", exclude={"threads"}),
        "input_size": list(info.input_size),
        "reconstruction_images": config.search.reconstruction_images,
        "held_back": config.search.held_back,
        "model": record.outputs[CHECKPOINT],
        "data": data_hash,
    }
    if config.data.validation_share:
        identity["validation_share"] = config.data.validation_share
    if folder.exists() and begun != identity:
        # Not from under a search that is running.
        with RunDir(folder).locked():
            aside = run.set_aside(SEARCH)
        logger.warning(
            "search: begun with other settings, model or images; what was there lies in %s",
            aside,
        )
    task = folder / TASK
    if not (folder / BEGUN).exists():
        write_task(task, settings, checkpoint, images, info.input_size)
        write_json(folder / BEGUN, identity)
    elif read_settings(task) != settings:
        with RunDir(folder).locked():
            write_settings(task, settings)  # how many threads a trial takes may change
    return Search(folder, task, settings)


def _begun(folder: Path) -> Any:
    try:
        return json.loads((folder / BEGUN).read_text())
    except (OSError, ValueError):
        return None


def _task_settings(
    config: Config, model: nn.Module, info: CheckpointInfo, begun: int | None
) -> TaskSettings:
    search, example = config.search, torch.zeros(1, 3, *info.input_size)
    groups = find_groups(model, torch.zeros(2, 3, *TRACE_SIZE))
    if search.variables is not None:
        variables: Patterns = search.variables
    else:
        free = width_options(
            model,
            torch.zeros(2, 3, *TRACE_SIZE),
            cost_example=example,
            untouched=search.untouched,
            groups=groups,
            section=SEARCH,
        )
        variables = default_variables(info.architecture, free)
    return TaskSettings(
        variables={name: tuple(patterns) for name, patterns in variables.items()},
        macs=_limit(config, model, info, begun),
        multiple=search.multiple,
        untouched=search.untouched,
        groups=tuple(groups),
        iterations=search.iterations,
        criterion=_criterion(config),
        distance=config.evaluation.distance,
        seed=derive_seed(config.seed, SEARCH, "cut"),
        threads=config.threads,
    )


def _criterion(config: Config) -> str:
    name = config.prune.criterion
    if CRITERIA.load(name).needs != "labelled_images":
        return name
    logger.info("search: %s needs labels, which a trial has not; candidates are cut by l2", name)
    return "l2"


def _limit(config: Config, model: nn.Module, info: CheckpointInfo, begun: int | None) -> int:
    """Return how many MACs a candidate may take.

    Once its plan is what ``prune`` ends at, a search goes on under the limit that it began with.
    """
    share, example = config.search.macs, torch.zeros(1, 3, *info.input_size)
    if share is not None:
        return int(share * model_cost(model, example).macs)
    target = stock_target(config, "prune")
    if plan_path(config) is not None and begun is not None:
        logger.info("search: the limit is that of the search that was begun, %d MACs", begun)
        return begun
    if target is None:
        raise PipelineError(
            "search.macs: give the limit as a share of the full-width model's (search.macs=0.28), "
            "prune.target is no architecture whose MACs could be taken"
        )
    final_widths(config, "prune", model)  # refuses one of another family
    return model_cost(build_model(target, embedding_dim=info.embedding_dim), example).macs


def _images(config: Config, data: ReidData) -> dict[str, Sequence[Sample]]:
    search, persons = config.search, count_persons(data.train)
    if search.held_back >= persons:
        raise PipelineError(
            f"search.held_back: {search.held_back} identities to score on leave none of the "
            f"{persons} to reconstruct on; choose fewer"
        )
    split = split_by_identity(
        data, search.held_back / persons, derive_seed(config.seed, SEARCH, "held back")
    )
    count, seed = search.reconstruction_images, derive_seed(config.seed, SEARCH, "reconstruct")
    return {
        "reconstruction": choose_over_cameras(split.train, count, seed),
        "query": split.query,
        "gallery": split.gallery,
    }

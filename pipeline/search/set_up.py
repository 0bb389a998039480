"""Set a search up: the held-back identities, the layers to cut, and the limit."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.config import Config
from pipeline.run_dir import CHECKPOINT, RunDir
from pipeline.run_images import read_images, split_validation
from pipeline.search.task import (
    TaskSettings,
    read_settings,
    search_space,
    write_settings,
    write_task,
)
from pipeline.search.variables import default_variables
from pipeline.settings.cut_sections import stock_target
from pipeline.stages.prune import PRUNE
from pipeline.target_widths import TRACE_SIZE, final_widths
from prune.criteria import find_criterion
from prune.nni_backend import find_groups
from prune.search.space import Patterns
from prune.width_options import width_options
from reid_edge.cli.progress_bars import progress_bars
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
STARTED_SEARCH = "search.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """A search that is set up.

    Attributes:
        folder: where all its files are written.
        task: folder of the task.
        settings: of the task.
    """

    folder: Path
    task: Path
    settings: TaskSettings


def set_up_search(config: Config, run: RunDir) -> Search:
    """Write the task of a search, or resume the one that was started with the same settings.

    A search with other settings, another model or other images is set aside.

    Raises:
        PipelineError: the run has no trained model, there are too few identities, or a search with
            other settings is running.
        PruneError: no widths are within the limit, or a variable's pattern matches no layer.
    """
    record = run.record("train")
    if record is None:
        raise PipelineError(
            f"{run.path}: stage train is not finished, and the search starts from its model; run "
            "it first (--stages train)"
        )
    checkpoint = run.stage_dir("train") / CHECKPOINT
    with progress_bars() as work:
        whole, data_hash = read_images(config, run, work)
    # The validation identities judge epochs and budgets later, so the search does not use them.
    data, _ = split_validation(config, whole)
    model, info = load_checkpoint(checkpoint)
    folder = run.path / SEARCH
    try:
        started = json.loads((folder / STARTED_SEARCH).read_text())
    except (OSError, ValueError):
        started = None
    limit = started["settings"]["macs"] if started else None
    settings, images = _task_settings(config, model, info, limit), _images(config, data)
    # An impossible limit or a pattern without a layer would fail in every trial: check both now.
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
    if folder.exists() and started != identity:
        # The lock keeps the folder of a running search where it is.
        with RunDir(folder).locked():
            aside = run.set_aside(SEARCH)
        logger.warning(
            "search: started with other settings, model or images; its files are now in %s",
            aside,
        )
    task = folder / TASK
    if not (folder / STARTED_SEARCH).exists():
        write_task(task, settings, checkpoint, images, info.input_size)
        write_json(folder / STARTED_SEARCH, identity)
    elif read_settings(task) != settings:
        with RunDir(folder).locked():
            write_settings(task, settings)  # how many threads a trial takes may change
    return Search(folder, task, settings)


def _task_settings(
    config: Config, model: nn.Module, info: CheckpointInfo, started_with: int | None
) -> TaskSettings:
    """Return the settings of the search's task.

    Args:
        config: all settings.
        model: the full-width model.
        info: what its checkpoint says.
        started_with: the limit of MACs of a search that was started.
    """
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
    criterion: str = config.of(PRUNE).criterion
    if find_criterion(criterion).needs == "labelled_images":
        logger.info(
            "search: %s needs labels, which a trial does not have; candidates are cut by l2",
            criterion,
        )
        criterion = "l2"
    prune, target = config.of(PRUNE), stock_target(config.of(PRUNE))
    if search.macs is not None:
        limit = int(search.macs * model_cost(model, example).macs)
    elif prune.plan_path is not None and started_with is not None:
        # ``prune.target`` is the plan of this search.
        limit = started_with
        logger.info("search: resumed with the limit that it was started with, %d MACs", limit)
    elif target is not None:
        final_widths(config, PRUNE, model)  # refuses one of another family
        limit = model_cost(build_model(target, embedding_dim=info.embedding_dim), example).macs
    else:
        raise PipelineError(
            "search.macs: give the limit as a share of the full-width model's (search.macs=0.28), "
            "prune.target is no architecture whose MACs could be taken"
        )
    return TaskSettings(
        variables={name: tuple(patterns) for name, patterns in variables.items()},
        macs=limit,
        multiple=search.multiple,
        untouched=search.untouched,
        groups=tuple(groups),
        iterations=search.iterations,
        criterion=criterion,
        distance=config.evaluation.distance,
        seed=derive_seed(config.seed, SEARCH, "cut"),
        threads=config.threads,
    )


def _images(config: Config, data: ReidData) -> dict[str, Sequence[Sample]]:
    if data.labels != "persons":
        raise PipelineError(
            f"{data.root}: the search scores widths by mAP, and the images have no identities; "
            "give prune.target an architecture, a share or a budget"
        )
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

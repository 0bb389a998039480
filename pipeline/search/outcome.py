"""The results of a search: a plan file and a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.run_dir import PLAN
from pipeline.search.score import CHECK_IMAGES, mean_average_precision
from pipeline.search.task import Task
from pipeline.target_widths import TRACE_SIZE
from prune.plan_file import PlanFile, write_plan
from prune.search.history import Trial, best_trial
from prune.search.space import SearchSpace
from prune.surgery import cut
from reid_edge.core.cost import model_cost
from reid_edge.core.tables import FittingTable

SHOWN = 10


@dataclass(frozen=True)
class Outcome:
    """What a search ends with.

    Attributes:
        plan: path of the plan file.
        table: the uniform widths, the best trials and the full-width model.
    """

    plan: Path
    table: FittingTable


def finish(folder: Path, task: Task, trials: Sequence[Trial]) -> Outcome:
    """Write the plan of the best trial, once it has proved that it can be cut.

    Args:
        folder: of the search.
        task: that was searched.
        trials: all of them; the first one is uniform.

    Raises:
        PruneError: the model cannot be cut to the plan.
    """
    space, best = task.space(), best_trial(trials)
    widths = space.widths(best.sample)
    compact = cut(
        task.model,
        widths,
        example=torch.zeros(2, 3, *TRACE_SIZE),
        check_input=task.reconstruction[:CHECK_IMAGES],
        groups=[tuple(members) for members in task.settings.groups],
    ).model
    cost = model_cost(compact, task.reconstruction[:1])
    reference = mean_average_precision(task, task.model)
    height, width = task.reconstruction.shape[2:]
    plan = PlanFile(
        architecture=task.architecture,
        input_size=(height, width),
        # Without the classifier, whose width is the number of identities.
        widths={name: widths[name] for name in space.free.costs.layers},
        macs=cost.macs,
        parameters=cost.parameters,
        note=f"searched with NNI's TPE in {len(trials)} trials below {task.settings.macs:,} MACs; "
        f"mAP on {len(task.query.persons)} held-back queries after reconstruction, untrained: "
        f"{best.score:.4f}, uniform widths {trials[0].score:.4f}, full width {reference:.4f}",
    )
    write_plan(folder / PLAN, plan)
    widest = [max(units, key=lambda unit: unit.width) for units in space.variables.values()]
    ranked = sorted(trials, key=lambda trial: (-trial.score, trial.number))[:SHOWN]
    rows = [("full width", f"{reference:.1%}", *_cost(space, {}), *["1.00"] * len(widest))]
    for trial in [trials[0], *(one for one in ranked if one.number != 0)]:
        tried = space.widths(trial.sample)
        name = f"{trial.number + 1}" + (" (uniform)" if trial.number == 0 else "")
        shares = [f"{tried[unit.layers[0]] / unit.width:.2f}" for unit in widest]
        rows.append((name, f"{trial.score:.1%}", *_cost(space, tried), *shares))
    table = FittingTable(
        "Searched widths, as shares of the full ones",
        ["trial", "mAP", "MACs", "parameters", *space.variables],
        rows,
        caption="mAP on held-back training identities after reconstruction, without training",
    )
    return Outcome(folder / PLAN, table)


def _cost(space: SearchSpace, widths: dict[str, int]) -> tuple[str, str]:
    cost = space.free.costs.cost(widths)
    return f"{cost.macs / 1e6:.1f} M", f"{cost.parameters:,}"

"""The score of widths: mAP on held-back training identities after reconstruction."""

import torch
from torch import Tensor, nn

from pipeline.search.task import Labelled, Task
from pipeline.target_widths import TRACE_SIZE
from prune.criteria.criterion import ScoringData
from prune.layer_widths import Widths, layer_widths
from prune.plans import linear_plan
from prune.reconstruct import reconstruct
from prune.surgery import cut
from reid_edge.metrics import evaluate_ranking

CHECK_IMAGES = 2
BATCH = 64


def compact_model(task: Task, widths: Widths) -> nn.Module:
    """Cut the task's model to widths in several iterations; reconstruct after each.

    Raises:
        PruneError: the widths cannot be reached.
    """
    model, full = task.model, layer_widths(task.model)
    groups = [tuple(members) for members in task.settings.groups]
    for step in linear_plan(full, {**full, **widths}, task.settings.iterations):
        result = cut(
            model,
            step,
            example=torch.zeros(2, 3, *TRACE_SIZE),
            check_input=task.reconstruction[:CHECK_IMAGES],
            criterion=task.settings.criterion,
            seed=task.settings.seed,
            groups=groups,
            data=ScoringData([task.reconstruction]),
        )
        # As in a run, the target is the model before this cut: its statistics still fit.
        reconstruct(result.model, model, result.kept, task.reconstruction)
        model = result.model
    return model


def mean_average_precision(task: Task, model: nn.Module) -> float:
    """Return the mAP of a model on the task's held-back images."""
    query, gallery = _embed(model, task.query), _embed(model, task.gallery)
    return evaluate_ranking(
        query,
        task.query.persons,
        task.query.cameras,
        gallery,
        task.gallery.persons,
        task.gallery.cameras,
        distance=task.settings.distance,
    ).mean_average_precision


@torch.inference_mode()
def _embed(model: nn.Module, labelled: Labelled) -> Tensor:
    batches = torch.split(labelled.images, BATCH)
    return torch.cat([model(batch) for batch in batches])

"""Criteria: what ranks channels. One criterion a file, and one line of registration here."""

from prune.criteria.criterion import Criterion
from reid_edge.core.errors import PruneError
from reid_edge.core.registry import Registry

CRITERIA: Registry[Criterion] = Registry(
    "criterion",
    "reid_edge.criteria",
    {
        "l2": "prune.criteria.l2:L2",
        "l1": "prune.criteria.l1:L1",
        "fpgm": "prune.criteria.fpgm:FPGM",
        "taylor": "prune.criteria.taylor:TAYLOR",
        "batchnorm_scale": "prune.criteria.batchnorm_scale:BATCHNORM_SCALE",
        "reconstruction": "prune.criteria.reconstruction:RECONSTRUCTION",
        "random": "prune.criteria.random_control:RANDOM",
    },
    error=PruneError,
)
"""All criteria by name; installed packages add theirs with entry points of the group."""


def find_criterion(criterion: object) -> Criterion:
    """Return the declaration of a criterion that is given by name or as itself.

    Raises:
        PruneError: the name is unknown, or it is neither a name nor a declaration.
    """
    found: object = CRITERIA.load(criterion) if isinstance(criterion, str) else criterion
    if not isinstance(found, Criterion):
        called = getattr(found, "__name__", type(found).__name__)
        raise PruneError(
            f"criterion {called!r} is no Criterion; pass a name, or "
            "Criterion(name=..., description=..., needs=..., score=...)"
        )
    return found

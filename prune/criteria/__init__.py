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

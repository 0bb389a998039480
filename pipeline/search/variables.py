"""Which layers move together in a search, if the settings do not say."""

import re

from prune.search.space import Patterns
from prune.width_options import WidthOptions
from reid_edge.models.registry import ARCHITECTURES

OSNET_BLOCK_INSIDE = re.compile(r"conv[234]\.\d+\.(conv1\.|conv2|gate\.)")


def default_variables(architecture: str, free: WidthOptions) -> Patterns:
    """Return the layers of each variable: one a stage, and for OSNet one for all block insides.

    Args:
        architecture: name in the registry.
        free: what of it may be cut.
    """
    found: dict[str, list[str]] = {}
    for unit in free.units:
        # Layers of two stages that share their channels count for the later one.
        found.setdefault(_variable(architecture, max(unit.layers)), []).extend(unit.layers)
    return found


def _variable(architecture: str, layer: str) -> str:
    if ARCHITECTURES.load(architecture).family == "osnet" and OSNET_BLOCK_INSIDE.match(layer):
        return "hidden"
    return layer.partition(".")[0]

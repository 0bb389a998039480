"""The default variables of a search: which layers change their widths together."""

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
    is_osnet = ARCHITECTURES.load(architecture).family == "osnet"
    found: dict[str, list[str]] = {}
    for unit in free.units:
        # Layers of two stages that share their channels count for the later one.
        layer = max(unit.layers)
        is_hidden = is_osnet and OSNET_BLOCK_INSIDE.match(layer)
        name = "hidden" if is_hidden else layer.partition(".")[0]
        found.setdefault(name, []).extend(unit.layers)
    return found

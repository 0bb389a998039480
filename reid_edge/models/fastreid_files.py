"""Weights of FastReID: which architecture they are of, and its names for the same layers.

FastReID has a backbone and a head, which pools, optionally reduces, and normalises by a BNNeck. Its
files name neither the architecture nor, since March 2021, mean and std.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from reid_edge.models.foreign_state import WRAPPERS
from reid_edge.models.registry import ARCHITECTURES
from reid_edge.models.resnet import DEPTHS, EXPONENT
from reid_edge.models.resnet_blocks import Bottleneck

PARTS = ("backbone.", "heads.")
# Pooling layers with weights; the others have none, so that a file does not tell which it is.
POOLING = "heads.pool_layer."
POOLING_EXPONENT = re.compile(r"heads\.pool_layer\.(?:0\.)?p")
# Sizes of its OSNets by the channels of their first layer.
OSNETS = {64: "x1_0", 48: "x0_75", 32: "x0_5", 16: "x0_25"}


def is_fastreids(names: Collection[str]) -> bool:
    """Tell by the names of its tensors whether FastReID wrote a file."""
    others = "|".join(name for name in WRAPPERS if f"{name}." not in PARTS)
    bare = [re.sub(rf"^(?:(?:{others})\.)+", "", name) for name in names]
    return all(any(name.startswith(part) for name in bare) for part in PARTS)


def find_architecture(state: Mapping[str, Tensor]) -> str | None:
    """Return the name of the architecture that FastReID's weights are of; None if there is none.

    Args:
        state: names without the modules that hold the model, as
            :func:`reid_edge.models.foreign_state.unwrapped` returns them.
    """
    form = None
    if "conv1.conv.weight" in state and "conv2.0.conv2a.conv1.weight" in state:
        width = OSNETS.get(len(state["conv1.conv.weight"]))
        instance_norm = "_ibn" if "conv1.bn.running_mean" not in state else ""
        # At full width a BNNeck on the pooled features is FastReID's; others are narrower there.
        kind = "bnneck" if width == "x1_0" else "fastreid"
        form = f"osnet{instance_norm}_{width}_{kind}"
    elif "layer1.0.conv1.weight" in state and not any(".se." in name for name in state):
        blocks = tuple(
            len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
            for stage in range(1, 5)
        )
        is_bottleneck = "layer1.0.conv3.weight" in state
        name = "resnest" if "layer1.0.conv2.fc1.weight" in state else "resnet"
        depth = next(
            (
                depth
                for depth, kind in DEPTHS.items()
                if kind.blocks == blocks and (kind.block is Bottleneck) == is_bottleneck
            ),
            None,
        )
        instance_norm = "_ibn" if "layer1.0.bn1.IN.weight" in state else ""
        exponent = next((state[name] for name in state if POOLING_EXPONENT.fullmatch(name)), None)
        is_mean = exponent is None or bool((exponent == 1).all())
        stronger = not is_mean or any(name.startswith("NL_") for name in state)
        form = f"{name}{depth}{instance_norm}_fastreid" + ("_sbs" if stronger else "")
    return form if form in ARCHITECTURES else None


def with_own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename FastReID's tensors as they are here; those of other programs stay as they are.

    Its embedding layer is a pointwise convolution; on pooled features it is a linear layer. Its
    non-local blocks are lists beside the stages; here each belongs to the block before it.
    """
    first = state.get("heads.bottleneck.0.weight")
    has_layer = first is not None and first.dim() == 4
    neck = "heads.bottleneck.1." if has_layer else "heads.bottleneck.0."
    renamed = {}
    for name, value in state.items():
        non_local = re.fullmatch(r"NL_(\d)\.(\d+)\.(.+)", name)
        if name in ("heads.weight", "heads.classifier.weight"):
            renamed["classifier.weight"] = value
        elif has_layer and name == "heads.bottleneck.0.weight":
            renamed["embedding.0.weight"] = value.flatten(1)
        elif name.startswith((neck, "heads.bnneck.")):  # the second is of 2020
            renamed["bottleneck." + name.rpartition(".")[2]] = value
        elif POOLING_EXPONENT.fullmatch(name):
            renamed["global_avgpool.p"] = value
        elif non_local is not None:
            stage, number, rest = non_local.groups()
            blocks, lists = (
                len({key.split(".")[1] for key in state if key.startswith(f"{part}{stage}.")})
                for part in ("layer", "NL_")
            )
            block = blocks - lists + int(number)
            renamed[f"layer{stage}.{block}.non_local.{rest}"] = value
        else:
            renamed[name] = value
    return renamed


def with_exponent(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Complete weights by the exponent of a pooling that FastReID does not learn, in place.

    An exponent of 1 is taken out where the model averages.

    Returns:
        What is assumed, as a clause; None where nothing is.
    """
    name = "global_avgpool.p"
    if name not in own:
        state.pop(name, None)
    if name in state or name not in own:
        return None
    state[name] = own[name].new_full(own[name].shape, EXPONENT)
    return f"its pooling has no exponent in it, FastReID's {EXPONENT:g} is assumed"

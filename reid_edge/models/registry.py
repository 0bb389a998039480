"""The architectures by name: a plain dictionary from name to factory."""

import difflib
from collections.abc import Callable
from functools import partial

from torch import nn

from reid_edge.core.errors import ModelError
from reid_edge.models.osnet import OSNet
from reid_edge.models.osnet_ain import OSNetAIN
from reid_edge.models.resnet import ResNet

Factory = Callable[..., nn.Module]

MODELS: dict[str, Factory] = {
    "osnet_x1_0": partial(OSNet, (64, 256, 384, 512)),
    "osnet_x0_75": partial(OSNet, (48, 192, 288, 384)),
    "osnet_x0_5": partial(OSNet, (32, 128, 192, 256)),
    "osnet_x0_25": partial(OSNet, (16, 64, 96, 128)),
    "osnet_ibn_x1_0": partial(OSNet, (64, 256, 384, 512), instance_norm=True),
    "osnet_ain_x1_0": partial(OSNetAIN, (64, 256, 384, 512)),
    "resnet18": partial(ResNet, 18),
    "resnet50": partial(ResNet, 50),
    "resnet18_bnneck": partial(ResNet, 18, bnneck=True),
    "resnet50_bnneck": partial(ResNet, 50, bnneck=True),
    # The strides of torchvision, and of torchreid's, BoxMOT's and layumi's plain ResNets.
    "resnet18_last_stride_2": partial(ResNet, 18, last_stride=2),
    "resnet50_last_stride_2": partial(ResNet, 50, last_stride=2),
    # What FastReID builds: a BNNeck, and a first pooling without padding.
    "resnet18_fastreid": partial(ResNet, 18, bnneck=True, padded_stem=False),
    "resnet50_fastreid": partial(ResNet, 50, bnneck=True, padded_stem=False),
    # Not published sizes: what the models above become when they are pruned to half their width.
    "osnet_ibn_x0_5": partial(OSNet, (32, 128, 192, 256), instance_norm=True),
    "osnet_ain_x0_5": partial(OSNetAIN, (32, 128, 192, 256)),
    "resnet18_x0_5": partial(ResNet, 18, width=0.5),
    "resnet50_x0_5": partial(ResNet, 50, width=0.5),
    "resnet18_bnneck_x0_5": partial(ResNet, 18, width=0.5, bnneck=True),
    "resnet50_bnneck_x0_5": partial(ResNet, 50, width=0.5, bnneck=True),
}


def check_architecture(name: str) -> str:
    """Return ``name`` if it is known.

    Raises:
        ModelError: it is not; the message names the nearest known one.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ModelError(f"unknown architecture {name!r}: {hint}known are {', '.join(MODELS)}")
    return name


def build_model(name: str, *, num_classes: int = 1, embedding_dim: int | None = None) -> nn.Module:
    """Build an architecture with random weights.

    Args:
        name: a key of ``MODELS``.
        num_classes: identities of the classifier.
        embedding_dim: size of the embedding; none: the architecture's own.

    Raises:
        ModelError: the name is not known.
    """
    factory = MODELS[check_architecture(name)]
    if embedding_dim is None:
        return factory(num_classes=num_classes)
    return factory(num_classes=num_classes, embedding_dim=embedding_dim)

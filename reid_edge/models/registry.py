"""The architectures by name. Names are known without importing PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reid_edge.core.errors import ModelError
from reid_edge.core.registry import Registry
from reid_edge.models.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn

ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    "reid_edge.architectures",
    {
        "osnet_x1_0": "reid_edge.models.osnet:OSNET_X1_0",
        "osnet_x0_75": "reid_edge.models.osnet:OSNET_X0_75",
        "osnet_x0_5": "reid_edge.models.osnet:OSNET_X0_5",
        "osnet_x0_25": "reid_edge.models.osnet:OSNET_X0_25",
        "osnet_ibn_x1_0": "reid_edge.models.osnet:OSNET_IBN_X1_0",
        "osnet_ain_x1_0": "reid_edge.models.osnet_ain:OSNET_AIN_X1_0",
        "osnet_ain_x0_75": "reid_edge.models.osnet_ain:OSNET_AIN_X0_75",
        "osnet_ain_x0_5": "reid_edge.models.osnet_ain:OSNET_AIN_X0_5",
        "osnet_ain_x0_25": "reid_edge.models.osnet_ain:OSNET_AIN_X0_25",
        "resnet18": "reid_edge.models.resnet:RESNET18",
        "resnet50": "reid_edge.models.resnet:RESNET50",
        "resnet18_bnneck": "reid_edge.models.resnet:RESNET18_BNNECK",
        "resnet50_bnneck": "reid_edge.models.resnet:RESNET50_BNNECK",
        "resnet18_last_stride_2": "reid_edge.models.resnet:RESNET18_LAST_STRIDE_2",
        "resnet50_last_stride_2": "reid_edge.models.resnet:RESNET50_LAST_STRIDE_2",
        "resnet18_fastreid": "reid_edge.models.resnet:RESNET18_FASTREID",
        "resnet50_fastreid": "reid_edge.models.resnet:RESNET50_FASTREID",
        "resnet50_ibn_fastreid": "reid_edge.models.resnet:RESNET50_IBN_FASTREID",
        "resnet101_ibn_fastreid": "reid_edge.models.resnet:RESNET101_IBN_FASTREID",
        "resnet18_fastreid_sbs": "reid_edge.models.resnet:RESNET18_FASTREID_SBS",
        "resnet34_fastreid_sbs": "reid_edge.models.resnet:RESNET34_FASTREID_SBS",
        "resnet50_fastreid_sbs": "reid_edge.models.resnet:RESNET50_FASTREID_SBS",
        "resnet50_ibn_fastreid_sbs": "reid_edge.models.resnet:RESNET50_IBN_FASTREID_SBS",
        "resnet101_ibn_fastreid_sbs": "reid_edge.models.resnet:RESNET101_IBN_FASTREID_SBS",
        "resnest50_fastreid": "reid_edge.models.resnest:RESNEST50_FASTREID",
        "resnest50_fastreid_sbs": "reid_edge.models.resnest:RESNEST50_FASTREID_SBS",
        "osnet_ibn_x0_5": "reid_edge.models.osnet:OSNET_IBN_X0_5",
        "osnet_x1_0_bnneck": "reid_edge.models.osnet:OSNET_X1_0_BNNECK",
        "osnet_x0_75_bnneck": "reid_edge.models.osnet:OSNET_X0_75_BNNECK",
        "osnet_x0_5_bnneck": "reid_edge.models.osnet:OSNET_X0_5_BNNECK",
        "osnet_x0_25_bnneck": "reid_edge.models.osnet:OSNET_X0_25_BNNECK",
        "osnet_ibn_x1_0_bnneck": "reid_edge.models.osnet:OSNET_IBN_X1_0_BNNECK",
        "osnet_ibn_x0_5_bnneck": "reid_edge.models.osnet:OSNET_IBN_X0_5_BNNECK",
        "osnet_x0_75_fastreid": "reid_edge.models.osnet:OSNET_X0_75_FASTREID",
        "osnet_x0_5_fastreid": "reid_edge.models.osnet:OSNET_X0_5_FASTREID",
        "osnet_x0_25_fastreid": "reid_edge.models.osnet:OSNET_X0_25_FASTREID",
        "osnet_ain_x1_0_bnneck": "reid_edge.models.osnet_ain:OSNET_AIN_X1_0_BNNECK",
        "osnet_ain_x0_5_bnneck": "reid_edge.models.osnet_ain:OSNET_AIN_X0_5_BNNECK",
        "resnet18_x0_5": "reid_edge.models.resnet:RESNET18_X0_5",
        "resnet50_x0_5": "reid_edge.models.resnet:RESNET50_X0_5",
        "resnet18_bnneck_x0_5": "reid_edge.models.resnet:RESNET18_BNNECK_X0_5",
        "resnet50_bnneck_x0_5": "reid_edge.models.resnet:RESNET50_BNNECK_X0_5",
    },
    error=ModelError,
)


def build_model(
    architecture: str | Architecture, *, num_classes: int = 1, embedding_dim: int | None = None
) -> nn.Module:
    """Build an architecture with random weights.

    Args:
        architecture: a name in ``ARCHITECTURES``, or a declaration that need not be registered.
        num_classes: identities of the classifier.
        embedding_dim: size of the embedding; None: the architecture's own.

    Raises:
        ModelError: the name is not known.
    """
    if isinstance(architecture, str):
        architecture = ARCHITECTURES.load(architecture)
    if embedding_dim is None:
        return architecture.build(num_classes=num_classes)
    return architecture.build(num_classes=num_classes, embedding_dim=embedding_dim)

"""Architectures and their checkpoints."""

from reid_edge.models.architecture import Architecture
from reid_edge.models.registry import ARCHITECTURES, build_model

__all__ = ["ARCHITECTURES", "Architecture", "build_model"]

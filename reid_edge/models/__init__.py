"""Architectures and their checkpoints."""

from reid_edge.models.registry import MODELS, build_model

__all__ = ["MODELS", "build_model"]

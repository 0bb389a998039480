"""Architectures and their checkpoints."""

from reid.models.registry import MODELS, build_model

__all__ = ["MODELS", "build_model"]

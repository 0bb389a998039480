"""Run a model in evaluation mode and restore its modes afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode; afterwards every module has its former mode.

    ``model.train(was_training)`` would give all modules the same mode: a frozen BatchNorm inside
    a model that learns would learn afterwards.

    Args:
        models: are changed within the block.
    """
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training

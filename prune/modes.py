"""Look at a model in evaluation mode, and leave its modes as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode; afterwards every module is in the mode that it had.

    ``model.train(was_training)`` would put all of them into one: a BatchNorm that is frozen inside
    of a model that learns would learn afterwards.

    Args:
        models: are changed for the time of the block.
    """
    modes = {module: module.training for model in models for module in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training

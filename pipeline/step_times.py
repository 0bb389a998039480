"""Time pieces of a training on this machine: a training step, an embedding."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reid_edge.core.devices import Precision, autocast
from reid_edge.core.memory import freed_memory_kept
from reid_edge.training.pooling_gradient import channels_last_pooling_gradients

REPEATS = 3


def random_images(count: int, size: tuple[int, int], device: str) -> Tensor:
    """Return normalised images (count, 3, H, W) of noise, as trainings have them in memory."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, *size, generator=generator)
    return images.to(device, memory_format=torch.channels_last)


def training_step(
    model: nn.Module, images: Tensor, precision: Precision, teacher: nn.Module | None = None
) -> Callable[[], None]:
    """Return what does a forward and a backward pass in training mode, as often as it is called.

    Args:
        model: returns (logits, embeddings); in the memory format of the images.
        images: (N, 3, H, W).
        precision: of the step.
        teacher: whose embeddings are imitated, if any.
    """

    def step() -> None:
        with channels_last_pooling_gradients(model), autocast(images.device, precision):
            wanted: Tensor | None = None
            if teacher is not None:
                with torch.no_grad():
                    wanted = teacher.eval()(images)
            logits, embeddings = model.train()(images)
            if wanted is None:
                loss = F.normalize(embeddings.float(), dim=1).sum() + logits.float().mean()
            else:
                loss = (embeddings.float() - wanted.float()).pow(2).mean()
        torch.autograd.backward(loss)

    return step


def embedding_step(
    model: nn.Module, images: Tensor, precision: Precision = "32-true"
) -> Callable[[], None]:
    """Return what embeds images (N, 3, H, W), as often as it is called."""

    def step() -> None:
        with torch.inference_mode(), autocast(images.device, precision):
            model.eval()(images)

    return step


@freed_memory_kept()
def seconds_of(work: Callable[[], None], repeats: int = REPEATS) -> float:
    """Return the median time of a piece of work, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@contextmanager
def limited_threads(count: int | None) -> Iterator[None]:
    """Compute with a number of threads, none: as many as PyTorch takes; then as before."""
    former = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(former)

"""Measure how long one image takes in each step of a compression, on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.time_budget import Speeds
from reid_edge.adaptation.clustering import ClusterOptions, find_clusters
from reid_edge.adaptation.site import Site
from reid_edge.core.devices import Device, choose_device
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import load_image
from reid_edge.data.transforms import TrainTransform
from reid_edge.models.registry import build_model

BATCH = 64
REPEATS = 3
LOADED_IMAGES = 64
CLUSTERED_IMAGES = 512


def fast_precision(device: str) -> str:
    """Return "bf16-mixed" where the processor or the GPU has arithmetic for it."""
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    able = torch.cpu.get_capabilities()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"


def measure_speeds(
    model: nn.Module,
    target: str,
    images: Sequence[Path],
    *,
    input_size: tuple[int, int],
    device: Device,
) -> Speeds:
    """Time loading, embedding, both training steps and clustering; about half a minute.

    Args:
        model: the full-width one.
        target: architecture of the compact one.
        images: of the site; some are read.
        input_size: (height, width).
        device: "auto", "cpu" or "cuda".
    """
    place = choose_device(device)
    precision = fast_precision(place)
    height, width = input_size
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(BATCH, 3, height, width, generator=generator).to(place)
    batch = batch.contiguous(memory_format=torch.channels_last)
    full = copy.deepcopy(model).to(place).to(memory_format=torch.channels_last)
    compact = build_model(target, num_classes=2).to(place).to(memory_format=torch.channels_last)
    autocast = torch.autocast(place, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")

    def embed() -> None:
        with torch.inference_mode():
            full.eval()(batch)

    def adapt() -> None:
        with autocast:
            _, embeddings = full.train()(batch)
            loss: Tensor = F.normalize(embeddings.float(), dim=1).sum()
        torch.autograd.backward(loss)

    def finetune() -> None:
        with autocast:
            with torch.no_grad():
                wanted: Tensor = full.eval()(batch)
            _, embeddings = compact.train()(batch)
            loss: Tensor = (embeddings.float() - wanted.float()).pow(2).mean()
        torch.autograd.backward(loss)

    transform = TrainTransform(AugmentationSettings(crop_padding=10, erasing=0.5), height, width)
    chosen = [images[i % len(images)] for i in range(LOADED_IMAGES)]

    def load() -> None:
        for number, path in enumerate(chosen):
            transform(torch.from_numpy(load_image(path, height, width)), number)

    points = torch.randn(CLUSTERED_IMAGES, 256, generator=generator)
    cameras = np.zeros(CLUSTERED_IMAGES, dtype=np.int64)

    def cluster() -> None:
        find_clusters(points, Site(cameras=cameras), ClusterOptions())

    return Speeds(
        load=_seconds(load, 1) / LOADED_IMAGES,
        embed=_seconds(embed) / BATCH,
        adapt=_seconds(adapt) / BATCH,
        finetune=_seconds(finetune) / BATCH,
        cluster=_seconds(cluster, 1) / CLUSTERED_IMAGES,
        precision=precision,
    )


def _seconds(work: Callable[[], None], repeats: int = REPEATS) -> float:
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

"""Measure how long one image takes in each step of a compression, on this machine."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.step_times import embedding_step, random_images, seconds_of, training_step
from pipeline.time_budget import Speeds
from reid_edge.adaptation.clustering import ClusterOptions, find_clusters
from reid_edge.adaptation.site import Site
from reid_edge.core.devices import Device, Precision, choose_device
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import load_image
from reid_edge.data.transforms import TrainTransform
from reid_edge.models.registry import build_model

logger = logging.getLogger(__name__)

BATCH = 64
LOADED_IMAGES = 64
CLUSTERED_IMAGES = 512


def fast_precision(device: str) -> Precision:
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
    batch = random_images(BATCH, input_size, place)
    full = copy.deepcopy(model).to(place).to(memory_format=torch.channels_last)
    compact = build_model(target, num_classes=2).to(place).to(memory_format=torch.channels_last)

    transform = TrainTransform(AugmentationSettings(crop_padding=10, erasing=0.5), height, width)
    chosen = [images[i % len(images)] for i in range(LOADED_IMAGES)]

    def load() -> None:
        for number, path in enumerate(chosen):
            transform(torch.from_numpy(load_image(path, height, width)), number)

    points = torch.randn(CLUSTERED_IMAGES, 256, generator=torch.Generator().manual_seed(0))
    cameras = np.zeros(CLUSTERED_IMAGES, dtype=np.int64)

    def cluster() -> None:
        find_clusters(points, Site(cameras=cameras), ClusterOptions())

    adapting = training_step(full, batch, precision)
    tuning = training_step(compact, batch, precision, teacher=full)
    logger.info("timing the loading of %d images, and their embedding", LOADED_IMAGES)
    loaded = seconds_of(load, 1) / LOADED_IMAGES
    embedded = seconds_of(embedding_step(full, batch)) / BATCH
    adapt_embedded = seconds_of(embedding_step(full, batch, precision)) / BATCH
    logger.info("timing a training step of the full-width model")
    adapted = seconds_of(adapting) / BATCH
    logger.info("timing a training step of the compact model")
    tuned = seconds_of(tuning) / BATCH
    return Speeds(
        load=loaded,
        embed=embedded,
        adapt=adapted,
        finetune=tuned,
        cluster=seconds_of(cluster, 1) / CLUSTERED_IMAGES,
        precision=precision,
        adapt_embed=adapt_embedded,
    )

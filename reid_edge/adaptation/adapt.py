"""Adapt a model to the unlabelled images of a site, and resume after its last whole epoch."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn

from reid_edge.adaptation.adaptation_module import AdaptationModule
from reid_edge.adaptation.adaptation_settings import AdaptationSettings
from reid_edge.adaptation.cluster_memory import ClusterMemory
from reid_edge.adaptation.cluster_sampler import ClusterSampler
from reid_edge.adaptation.clustering import (
    ClusterOptions,
    Clusters,
    check_clusters,
    find_clusters,
)
from reid_edge.adaptation.site import Site
from reid_edge.core.errors import worker_errors_as_own
from reid_edge.core.io import write_json
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.data.loaders import BYTES_OF_PIXEL, TrainingImages
from reid_edge.data.schema import Sample
from reid_edge.data.worker_limits import make_loader
from reid_edge.inference.features import embed_images
from reid_edge.training.after_epoch import AfterEpoch, ShowBatches
from reid_edge.training.checkpoint_io import AtomicCheckpointIO
from reid_edge.training.divergence import StopAtDivergence
from reid_edge.training.epoch_log import EpochLog
from reid_edge.training.fit_state import LAST, load_weights, read_progress
from reid_edge.training.metric_logs import MetricLog
from reid_edge.training.pooling_gradient import channels_last_pooling_gradients
from reid_edge.training.processes import quiet_lightning
from reid_edge.training.settings import MetricFormat

CLUSTERS_FILE = "clusters.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdaptConfig:
    """The configuration of :func:`adapt`: images, method, place.

    Attributes:
        images: to learn from; their persons are not looked at.
        site: cameras and tracks of the images.
        settings: clusters, memory, optimiser.
        height: input rows.
        width: input columns.
        seed: of every random draw.
        folder: keeps the state after every epoch, from which an interrupted adaptation resumes.
        label: name of the training in the log.
        log: formats in which the numbers of every epoch are written into ``folder``.
        accelerator: "cpu" or "cuda".
        workers: processes that load images; their number does not change the result.
        embedding_batch: images embedded at once.
        after_epoch: is called after every epoch.
        work: begins a piece of work that tells how far it is.
    """

    images: Sequence[Sample]
    site: Site
    settings: AdaptationSettings
    height: int
    width: int
    seed: int
    folder: Path
    label: str
    log: Sequence[MetricFormat] = ()
    accelerator: str = "cpu"
    workers: int = 0
    embedding_batch: int = 64
    after_epoch: Callable[[], None] = lambda: None
    work: StartProgress = no_progress


@dataclass(frozen=True)
class ClusteredEpoch:
    """The clusters that an epoch learned from.

    Attributes:
        epoch: from 1.
        clusters: their number.
        outliers: number of images in none.
        largest: number of images in the largest cluster.
    """

    epoch: int
    clusters: int
    outliers: int
    largest: int


def adapt(model: nn.Module, config: AdaptConfig) -> list[ClusteredEpoch]:
    """Train a model in place against clusters of the images, which are found anew each epoch.

    Every epoch begins with the state of the last one as it is in ``config.folder``: the images are
    embedded and clustered (:func:`reid_edge.adaptation.clustering.find_clusters`), a memory of the
    clusters' centres is made, and the model learns to tell its own centre from the others
    (:class:`reid_edge.adaptation.cluster_memory.ClusterMemory`). A second call with the same
    arguments after a kill resumes from that state and ends with the same weights, bit for bit.

    Args:
        model: returns (logits, embeddings) in training mode.
        config: what it learns from, how, and where the state is kept.

    Returns:
        The clusters of every epoch.

    Raises:
        TrainingError: there are too few clusters, or all images are one.
        DivergenceError: a loss or a weight is not finite.
        CheckpointError: the state after an epoch cannot be read.
        DataError: an image cannot be decoded.
    """
    settings = config.settings
    steps = settings.steps or max(1, len(config.images) // settings.batch)
    last = config.folder / LAST
    done = read_progress(config.folder, steps).epochs
    if done:
        logger.info("%s: resuming after epoch %d (%s)", config.label, done, last)
    found = read_clusters(config.folder)[:done]
    for epoch in range(done, settings.epochs):
        if epoch:
            load_weights(model, last)
        embeddings = embed_site(model, config, f"epoch {epoch + 1} of {settings.epochs}")
        clusters = find_clusters(embeddings, config.site, cluster_options(settings))
        logger.info("%s: epoch %d/%d, %s", config.label, epoch + 1, settings.epochs, clusters)
        check_clusters(clusters, fewest=settings.clusters_per_batch)
        found.append(ClusteredEpoch(epoch + 1, clusters.count, clusters.outliers, clusters.largest))
        write_json(config.folder / CLUSTERS_FILE, [asdict(one) for one in found])
        _train_epoch(model, config, clusters, embeddings, epoch=epoch, steps=steps)
    load_weights(model, last)
    return found


def cluster_options(settings: AdaptationSettings) -> ClusterOptions:
    """Return how the settings cluster images."""
    return ClusterOptions(**{f.name: getattr(settings, f.name) for f in fields(ClusterOptions)})


def embed_site(model: nn.Module, config: AdaptConfig, epoch: str) -> Tensor:
    """Return the embeddings (N, D) of the images of an adaptation, in the training's arithmetic."""
    embeddings = embed_images(
        model,
        config.images,
        height=config.height,
        width=config.width,
        batch_size=config.embedding_batch,
        workers=config.workers,
        device=config.accelerator,
        precision=config.settings.precision,
        progress=config.work(f"{config.label}: {epoch}, embedding images"),
    )
    model.cpu()
    return embeddings


def _train_epoch(
    model: nn.Module,
    config: AdaptConfig,
    clusters: Clusters,
    embeddings: Tensor,
    *,
    epoch: int,
    steps: int,
) -> None:
    """Train one epoch from the state in the folder, and write the state after it.

    Each epoch has a trainer of its own, as after an interruption: so both take the same way.
    """
    settings = config.settings
    labels = torch.from_numpy(clusters.labels)
    memory = ClusterMemory.of_clusters(
        embeddings, labels, temperature=settings.temperature, momentum=settings.momentum
    )
    # The class of an image is its index here: clusters change, and loaders need not know them.
    numbered = [replace(image, person=index) for index, image in enumerate(config.images)]
    sampler = ClusterSampler(
        clusters.labels,
        config.site.cameras,
        clusters_per_batch=settings.clusters_per_batch,
        images_per_cluster=settings.images_per_cluster,
        steps=steps,
        seed=config.seed,
    )
    sampler.set_epoch(epoch)
    loader = make_loader(
        TrainingImages(numbered, settings.augmentation, config.height, config.width),
        batch_size=settings.batch,
        image_bytes=BYTES_OF_PIXEL * config.height * config.width,
        workers=config.workers,
        sampler=sampler,
        drop_last=True,
    )
    training = settings.training()
    module = AdaptationModule(model, training, steps_per_epoch=steps, memory=memory, labels=labels)
    model.train()
    model.to(memory_format=torch.channels_last)
    callbacks: list[Callback] = [
        EpochLog(config.label, config.seed, epochs=settings.epochs),
        StopAtDivergence(config.label, config.folder),
        ModelCheckpoint(
            dirpath=config.folder,
            filename=Path(LAST).stem,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
        AfterEpoch(config.after_epoch),
        ShowBatches(config.label, config.work, epochs=settings.epochs),
        MetricLog(config.folder, config.log),
    ]
    with (
        freed_memory_kept(),
        channels_last_pooling_gradients(model),
        quiet_lightning(),
        worker_errors_as_own(),
    ):
        lightning.Trainer(
            accelerator=config.accelerator,
            devices=1,
            max_epochs=epoch + 1,
            precision=settings.precision,
            gradient_clip_val=settings.gradient_clip or None,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            deterministic="warn",
            use_distributed_sampler=False,
        ).fit(
            module,
            loader,
            ckpt_path=str(config.folder / LAST) if epoch else None,
            weights_only=True,
        )
    model.cpu().to(memory_format=torch.contiguous_format)


def read_clusters(folder: Path) -> list[ClusteredEpoch]:
    """Return the clusters of the epochs so far, as they were written."""
    try:
        return [ClusteredEpoch(**one) for one in json.loads((folder / CLUSTERS_FILE).read_text())]
    except (OSError, ValueError, TypeError):
        return []

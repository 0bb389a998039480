"""Validation on identities that are not trained on, to choose the best epoch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from reid_edge.data.schema import ReidData, label_tensors
from reid_edge.metrics import Distance, evaluate_ranking

METRIC = "validation/mAP"


@dataclass(frozen=True)
class Validation:
    """The images that are evaluated between epochs.

    Attributes:
        data: query and gallery of identities that are not trained on.
        distance: between embeddings.
        batch_size: images embedded at once.
    """

    data: ReidData
    distance: Distance = "cosine"
    batch_size: int = 64

    def loader(
        self, *, height: int, width: int, workers: int, replicas: int = 1
    ) -> DataLoader[Tensor]:
        """Make a loader of the query's images, then the gallery's, in batches (B, 3, H, W).

        Each of ``replicas`` processes has every so many of the batches.
        """
        from reid_edge.data.loaders import evaluation_loader  # imports torchvision: seconds

        return evaluation_loader(
            [*self.data.query, *self.data.gallery],
            height=height,
            width=width,
            batch_size=self.batch_size,
            workers=workers,
            replicas=replicas,
        )

    def collect(self, embeddings: Tensor, replicas: int, device: torch.device) -> Tensor:
        """Return the embeddings (N, D) of all images, in order, on every process.

        Args:
            embeddings: of the batches of this process (n, D); D may be 0 where it has none.
            replicas: processes.
            device: that they exchange tensors of.
        """
        images = len(self.data.query) + len(self.data.gallery)
        batches = -(-images // self.batch_size)
        longest = -(-batches // replicas) * self.batch_size
        width = torch.tensor([embeddings.shape[1]], device=device)
        torch.distributed.all_reduce(width, torch.distributed.ReduceOp.MAX)
        padded = torch.zeros(longest, int(width), device=device)
        padded[: len(embeddings), : embeddings.shape[1]] = embeddings.to(device)
        parts = [torch.empty_like(padded) for _ in range(replicas)]
        torch.distributed.all_gather(parts, padded)
        # Batch b is the b // replicas-th of process b % replicas.
        blocks = torch.stack(parts).view(replicas, -1, self.batch_size, int(width))
        return blocks.transpose(0, 1).reshape(-1, int(width))[:images].cpu()

    def mean_average_precision(self, embeddings: Tensor) -> float:
        """Return the mAP of the embeddings (N, D) of the loader's images."""
        queries = len(self.data.query)
        return evaluate_ranking(
            embeddings[:queries],
            *label_tensors(self.data.query),
            embeddings[queries:],
            *label_tensors(self.data.gallery),
            distance=self.distance,
            protocol=self.data.protocol,
        ).mean_average_precision

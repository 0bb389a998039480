"""Validation on identities that are not trained on, to choose the best epoch."""

from dataclasses import dataclass

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

    def loader(self, *, height: int, width: int, workers: int) -> DataLoader[Tensor]:
        """Make a loader of the query's images, then the gallery's, in batches (B, 3, H, W)."""
        from reid_edge.data.loaders import evaluation_loader  # imports torchvision: seconds

        return evaluation_loader(
            [*self.data.query, *self.data.gallery],
            height=height,
            width=width,
            batch_size=self.batch_size,
            workers=workers,
        )

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

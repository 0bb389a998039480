"""Whether a file gives the embeddings of the model that it was made of: arithmetic on arrays."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_edge.core.errors import QuantizeError

BATCH_SIZES = (1, 2, 7)
NEAREST = 10
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Parity:
    """How a file's embeddings compare with the model's, at unit length.

    Attributes:
        images: how many were compared.
        mean_cosine: of each image's two embeddings, the mean.
        lowest_cosine: the lowest of them.
        same_nearest: share of the queries whose nearest gallery image is the same.
        nearest_overlap: share of the ten nearest gallery images that are the same, the mean.
        spread: variance of the file's embeddings over the images, summed over the dimensions;
            between 0, all are the same, and 1.
        model_spread: that of the model's.
        batch_difference: the largest difference between an image's embeddings in batches of 1, 2
            and 7.
    """

    images: int
    mean_cosine: float
    lowest_cosine: float
    same_nearest: float
    nearest_overlap: float
    spread: float
    model_spread: float
    batch_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as what JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class ParityLimits:
    """What a file has to keep to.

    Attributes:
        mean_cosine: the least mean cosine.
        lowest_cosine: the least cosine of a single image.
        spread: the least spread, as a share of the model's.
        batch_difference: the largest difference between batches.
    """

    mean_cosine: float
    lowest_cosine: float
    spread: float = 0.5
    batch_difference: float = 1e-4


def compare(
    model: tuple[Tensor, Tensor], file: tuple[Tensor, Tensor], *, batch_difference: float
) -> Parity:
    """Compare a file's embeddings with the model's.

    Args:
        model: the model's of the queries (Q, D) and of the gallery (G, D), of any length.
        file: the file's, of the same images in the same order.
        batch_difference: what ``batch_difference`` measured.

    Raises:
        QuantizeError: the shapes differ, or an embedding is not finite.
    """
    for theirs, ours in zip(file, model, strict=True):
        if theirs.shape != ours.shape:
            raise QuantizeError(
                f"embeddings have shape {tuple(theirs.shape)}, the model's {tuple(ours.shape)}"
            )
        if not torch.isfinite(theirs).all():
            raise QuantizeError("embeddings are not finite")
    (query, gallery), (own_query, own_gallery) = (
        tuple(F.normalize(each.double()) for each in pair) for pair in (model, file)
    )
    exact, own = torch.cat((query, gallery)), torch.cat((own_query, own_gallery))
    cosines = (exact * own).sum(1)
    nearest, own_nearest = _nearest(query, gallery), _nearest(own_query, own_gallery)
    common = (nearest[:, :, None] == own_nearest[:, None, :]).any(2)
    return Parity(
        images=len(exact),
        mean_cosine=float(cosines.mean()),
        lowest_cosine=float(cosines.min()),
        same_nearest=float((nearest[:, 0] == own_nearest[:, 0]).double().mean()),
        nearest_overlap=float(common.double().mean()),
        spread=spread(own),
        model_spread=spread(exact),
        batch_difference=batch_difference,
    )


def spread(embeddings: Tensor) -> float:
    """Return the variance of embeddings (N, D) over N, at unit length, summed over D."""
    return float(F.normalize(embeddings.double()).var(0, correction=0).sum())


@torch.inference_mode()
def batch_difference(
    embed: Callable[[Tensor], Tensor], images: Tensor, sizes: Sequence[int] = BATCH_SIZES
) -> float:
    """Return the largest difference that the size of the batch makes to an image's embedding.

    Args:
        embed: from images (N, 3, H, W) to embeddings (N, D) of any length.
        images: at least one; each size takes the first so many of them.
        sizes: of the batches.
    """
    batches = [F.normalize(embed(images[:size]).double()) for size in sizes]
    largest = max(batches, key=len)
    return max(float((batch - largest[: len(batch)]).abs().max()) for batch in batches)


def violations(parity: Parity, limits: ParityLimits) -> list[str]:
    """Say in a few words each what a file does not keep to; empty if all is well."""
    found = []
    if not parity.spread >= limits.spread * parity.model_spread:
        found.append(
            f"its embeddings collapse: they vary by {parity.spread:.2g} over the images, the "
            f"model's by {parity.model_spread:.2g}"
        )
    for name, value, limit in (
        ("mean cosine to the model", parity.mean_cosine, limits.mean_cosine),
        ("lowest cosine to the model", parity.lowest_cosine, limits.lowest_cosine),
    ):
        if not value >= limit:
            found.append(f"{name} {value:.4f}, wanted {limit:g}")
    if not parity.batch_difference <= limits.batch_difference:
        found.append(
            f"embeddings depend on the batch by {parity.batch_difference:.1e}, allowed "
            f"{limits.batch_difference:g}"
        )
    return found


def _nearest(query: Tensor, gallery: Tensor) -> Tensor:
    """Return the indices (Q, up to 10) of the gallery images nearest to each query, in order."""
    count = min(NEAREST, len(gallery))
    return torch.cat(
        [
            (part @ gallery.T).topk(count, dim=1).indices
            for part in torch.split(query, _QUERIES_AT_ONCE)
        ]
    )

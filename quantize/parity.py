"""Compare the embeddings of a file with those of its model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from quantize.measurements import Parity
from reid_edge.core.errors import QuantizeError

BATCH_SIZES = (1, 2, 7)
NEAREST = 10
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class ParityLimits:
    """Limits for the embeddings of a file.

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
        _check_alike(theirs, ours)
    (query, gallery), (own_query, own_gallery) = (
        tuple(F.normalize(each.double()) for each in pair) for pair in (model, file)
    )
    return _parity(
        torch.cat((query, gallery)),
        torch.cat((own_query, own_gallery)),
        _nearest(query, gallery),
        _nearest(own_query, own_gallery),
        batch_difference,
    )


def compare_among(model: Tensor, file: Tensor, *, batch_difference: float) -> Parity:
    """Compare a file's embeddings with the model's; an image's nearest ones are among the others.

    Args:
        model: the model's (N, D), of any length; N is 2 or more.
        file: the file's, of the same images in the same order.
        batch_difference: what ``batch_difference`` measured.

    Raises:
        QuantizeError: the shapes differ, or an embedding is not finite.
    """
    _check_alike(file, model)
    exact, own = F.normalize(model.double()), F.normalize(file.double())
    return _parity(exact, own, nearest_others(exact), nearest_others(own), batch_difference)


def _check_alike(theirs: Tensor, ours: Tensor) -> None:
    if theirs.shape != ours.shape:
        raise QuantizeError(
            f"embeddings have shape {tuple(theirs.shape)}, the model's {tuple(ours.shape)}"
        )
    if not torch.isfinite(theirs).all():
        raise QuantizeError("embeddings are not finite")


def _parity(
    exact: Tensor, own: Tensor, nearest: Tensor, own_nearest: Tensor, batch_difference: float
) -> Parity:
    """Return the parity of unit-length embeddings and of the indices of their nearest images."""
    cosines = (exact * own).sum(1)
    same, overlap = agreement_of_nearest(nearest, own_nearest)
    return Parity(
        images=len(exact),
        mean_cosine=float(cosines.mean()),
        lowest_cosine=float(cosines.min()),
        same_nearest=same,
        nearest_overlap=overlap,
        spread=spread(own),
        model_spread=spread(exact),
        batch_difference=batch_difference,
    )


def agreement_of_nearest(nearest: Tensor, others: Tensor) -> tuple[float, float]:
    """Return how far two lists of nearest images (Q, K) agree.

    Returns:
        The share of the queries with the same first one, and the mean share that both have.
    """
    common = (nearest[:, :, None] == others[:, None, :]).any(2)
    return (
        float((nearest[:, 0] == others[:, 0]).double().mean()),
        float(common.double().mean()),
    )


def spread(embeddings: Tensor) -> float:
    """Return the variance of embeddings (N, D) over N, at unit length, summed over D."""
    return float(F.normalize(embeddings.double()).var(0, correction=0).sum())


@torch.inference_mode()
def batch_difference(
    embed: Callable[[Tensor], Tensor], images: Tensor, sizes: Sequence[int] = BATCH_SIZES
) -> float:
    """Return the largest difference between an image's embeddings in batches of several sizes.

    Args:
        embed: from images (N, 3, H, W) to embeddings (N, D) of any length.
        images: at least one; a batch takes the first ones.
        sizes: of the batches.
    """
    batches = [F.normalize(embed(images[:size]).double()) for size in sizes]
    largest = max(batches, key=len)
    return max(float((batch - largest[: len(batch)]).abs().max()) for batch in batches)


def violations(parity: Parity, limits: ParityLimits) -> list[str]:
    """Return the exceeded limits, a few words each; empty if there are none."""
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


def nearest_others(embeddings: Tensor) -> Tensor:
    """Return the indices (N, up to 10) of the other images nearest to each, in order.

    Args:
        embeddings: (N, D), of unit length; N is 2 or more.
    """
    count = min(NEAREST, len(embeddings) - 1)
    parts = []
    for start in range(0, len(embeddings), _QUERIES_AT_ONCE):
        rows = torch.arange(start, min(start + _QUERIES_AT_ONCE, len(embeddings)))
        similarities = embeddings[rows] @ embeddings.T
        similarities[torch.arange(len(rows)), rows] = -torch.inf
        parts.append(similarities.topk(count, dim=1).indices)
    return torch.cat(parts)

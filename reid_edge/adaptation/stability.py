"""How many of an image's nearest images stay the same when light and crop change."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from reid_edge.adaptation.site_views import embed_changed
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.data.schema import ReidData
from reid_edge.inference.features import embed_images
from reid_edge.metrics.label_free import Tracks, evaluate_label_free

# Of more images, so many are looked at.
MOST_IMAGES = 640


def neighbour_stability(
    models: Sequence[nn.Module],
    data: ReidData,
    *,
    height: int,
    width: int,
    seed: int,
    device: str = "cpu",
    work: StartProgress = no_progress,
) -> list[float]:
    """Return the share of the ten nearest images that stay in another light and crop, by model.

    Each image is changed in its own way, and the nearest ones are those among the changed images.
    Over models that are like their teacher or not, this share follows mAP more closely than the
    likeness to the teacher does (docs/results/without-labels.md).

    Args:
        models: see :func:`reid_edge.inference.features.embed_images`; all see the same changes.
        data: whose queries are looked at, 640 at most, evenly over all.
        height: rows of the input.
        width: columns of the input.
        seed: of the changes.
        device: where the models run.
        work: begins a piece of work that tells how far it is.

    Raises:
        DataError: there are fewer than three images, or one cannot be read.
    """
    count = min(MOST_IMAGES, len(data.query))
    images = [data.query[place * len(data.query) // count] for place in range(count)]
    tracks = Tracks.of(images) if data.labels == "tracks" else None
    report = work("comparing images with changed copies")

    def tell(before: int, done: int, _: int) -> None:
        report(before + done, 2 * count * len(models))

    shares = []
    for number, model in enumerate(models):
        before = 2 * count * number
        plain = embed_images(
            model,
            images,
            height=height,
            width=width,
            device=device,
            progress=partial(tell, before),
        )
        changed = embed_changed(
            model,
            images,
            height=height,
            width=width,
            seed=seed,
            device=device,
            progress=partial(tell, before + count),
        )
        model.cpu()
        shares.append(evaluate_label_free(plain, changed, tracks).nearest_overlap)
    return shares

"""How many of an image's nearest images stay the same when light and crop change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import nn

from reid_edge.adaptation.site_views import embed_changed
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.data.schema import ReidData
from reid_edge.inference.features import Embed, embed_images
from reid_edge.metrics.label_free import NEAREST, Tracks, evaluate_label_free

# Of more images, so many are looked at. Shares of the ten nearest fall as a set grows, so limits of
# them hold for sets of this size.
MOST_IMAGES = 640


@dataclass(frozen=True)
class Stability:
    """What happens to the ten nearest images of each image.

    Attributes:
        teacher: share of the teacher's that stay when light and crop change.
        student: share of the student's that stay.
        overlap: share of the teacher's that are among the student's, light and crop unchanged.
        images: number of images.
    """

    teacher: float
    student: float
    overlap: float
    images: int

    @property
    def chance(self) -> float:
        """Return the share that stays if all neighbours are drawn by chance."""
        return NEAREST / max(self.images - 1, NEAREST)


def compare_stability(
    teacher: Embed,
    student: Embed,
    data: ReidData,
    *,
    height: int,
    width: int,
    seed: int,
    device: str = "cpu",
    work: StartProgress = no_progress,
) -> Stability:
    """Compare two models by the nearest images of images, and of copies in another light and crop.

    Each image is changed in its own way; both models see the same changes. Over models that are
    like their teacher or not, the share that stays follows mAP more closely than the likeness to
    the teacher does (docs/results/without-labels.md).

    Args:
        teacher: see :func:`reid_edge.inference.features.embed_images`; a module is on the CPU
            afterwards.
        student: likewise.
        data: whose queries are looked at, 640 at most, evenly over all.
        height: rows of the input.
        width: columns of the input.
        seed: of the changes.
        device: where modules run.
        work: begins a piece of work that tells how far it is.

    Raises:
        DataError: there are fewer than three images, or one cannot be read.
    """
    count = min(MOST_IMAGES, len(data.query))
    images = [data.query[place] for place in evenly(len(data.query), count)]
    tracks = Tracks.of(images) if data.labels == "tracks" else None
    report = work("comparing images with changed copies")

    def tell(before: int, done: int, _: int) -> None:
        report(before + done, 4 * count)

    plain, shares = [], []
    for number, model in enumerate((teacher, student)):
        before = 2 * count * number
        embeddings = embed_images(
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
        if isinstance(model, nn.Module):
            model.cpu()
        plain.append(embeddings)
        shares.append(evaluate_label_free(embeddings, changed, tracks).nearest_overlap)
    overlap = evaluate_label_free(plain[0], plain[1], tracks).nearest_overlap
    return Stability(shares[0], shares[1], overlap, count)


def evenly(count: int, most: int) -> list[int]:
    """Return the places of at most so many of ``count`` things, evenly over all."""
    chosen = min(count, most)
    return [place * count // chosen for place in range(chosen)]

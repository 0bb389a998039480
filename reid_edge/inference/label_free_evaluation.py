"""The evaluation of a model on images without identities, beside its teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from reid_edge.core.errors import ModelError
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import check_embeddings, point_one_way
from reid_edge.metrics.distances import unit_length
from reid_edge.metrics.label_free import Tracks, evaluate_label_free, spread
from reid_edge.metrics.results import Evaluation, PairCounts
from reid_edge.metrics.verification import evaluate_verification

# Variance of a teacher's embeddings; of images of different people it is 0.2 and more.
COLLAPSED = 1e-3
TRACK_PAIRS = (
    "of tracks (genuine ones of both halves of a track, impostor ones of two seen at once)"
)


def check_varied(teacher: Tensor, where: Path, which: str) -> None:
    """Check that a teacher tells images apart.

    Args:
        teacher: its embeddings of images, shape (N, D).
        where: the folder of the images, or the file of the embeddings, for the message.
        which: images these are, for the message.

    Raises:
        ModelError: the embeddings are nearly the same.
    """
    varies = spread(teacher)
    if varies < COLLAPSED:
        raise ModelError(
            f"{where}: the teacher gives nearly the same embedding for {which} (they vary by "
            f"{varies:.1g}), so there is nothing to learn from it; either the images are all alike "
            "(reid-edge check), or it is a model for something else"
        )


def evaluate_without_identities(
    teacher: Tensor, student: Tensor, data: ReidData, *, may_collapse: bool = False
) -> Evaluation:
    """Compare a model with its teacher on the images that a set without identities sets apart.

    Args:
        teacher: the teacher's embeddings of ``data.query``, shape (N, D_teacher).
        student: the model's embeddings of them, shape (N, D_student).
        data: the set.
        may_collapse: measure even if all images have the same embedding, as between a cut and the
            training that mends it.

    Raises:
        DataError: embeddings are not finite, or are not those of the images.
        ModelError: an embedding is zero in all dimensions, or the teacher or the model gives the
            same one for all images.
    """
    for embeddings in (teacher, student):
        check_embeddings(embeddings.numpy())
    check_varied(teacher, data.root, f"all {len(teacher)} images that are set apart")
    if not may_collapse and point_one_way(student.numpy()):
        raise ModelError(
            f"the model gives the same embedding for all {len(student)} images: the training "
            "collapsed or the file is damaged; take another checkpoint"
        )
    tracks = Tracks.of(data.query) if data.labels == "tracks" else None
    places, same = (
        tracks.pairs() if tracks is not None else (torch.empty(0, 2).long(), torch.empty(0))
    )
    genuine = int(same.sum())
    counts = PairCounts(which=TRACK_PAIRS, genuine=genuine, impostor=len(same) - genuine)
    verification = None
    if counts.missing is None:
        first, second = unit_length(student.float())[places.T]
        verification = evaluate_verification((first * second).sum(1), same)
    return Evaluation(
        ranking={},
        verification=verification,
        pairs=counts,
        has_cameras=data.has_cameras,
        query_images=len(data.query),
        gallery_images=0,
        label_free=evaluate_label_free(teacher, student, tracks),
    )

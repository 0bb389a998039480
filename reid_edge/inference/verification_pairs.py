"""Which pairs of test images a data set is verified on."""

import torch
from torch import Tensor

from reid_edge.data.schema import ReidData, label_tensors
from reid_edge.metrics import PairScores, pair_scores, pair_scores_within


def verification_pairs(data: ReidData, query: Tensor, gallery: Tensor) -> PairScores:
    """Score the pairs that a data set is verified on.

    With cameras: every query against every gallery image, but not against those of its person
    from its camera, as in ranking. Strangers on one camera are compared, since they are in use too.
    Without, as with faces: every test image against every other one, each pair once; which of
    them are queries does not matter then.

    Args:
        data: whose query and gallery these are.
        query: embeddings of its queries, shape (queries, dimensions).
        gallery: embeddings of its gallery, shape (gallery, dimensions).

    Raises:
        DataError: features are not finite, or shapes do not belong together.
    """
    if data.has_cameras:
        query_persons, query_cameras = label_tensors(data.query)
        gallery_persons, gallery_cameras = label_tensors(data.gallery)
        return pair_scores(
            query,
            query_persons,
            gallery,
            gallery_persons,
            query_cameras=query_cameras,
            gallery_cameras=gallery_cameras,
        )
    images = [*data.query, *data.gallery]
    # An image in both splits is one image. Its stand-in camera tells it, where `prepare` has
    # written it into both folders and its path no longer does.
    rows = {(image.person, image.camera): row for row, image in enumerate(images)}.values()
    return pair_scores_within(
        torch.cat((query, gallery))[list(rows)],
        torch.tensor([images[row].person for row in rows]),
    )


def describe_pairs(data: ReidData) -> str:
    """Say which pairs these are, for a table."""
    if data.has_cameras:
        return "of query and gallery (genuine ones from two cameras)"
    return "of all test images"

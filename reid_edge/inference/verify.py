"""Verification: are two images of the same person?"""

from dataclasses import dataclass
from pathlib import Path

from reid_edge.inference.embedder import Embedder, embed_files
from reid_edge.metrics.distances import unit_length


@dataclass(frozen=True)
class Verification:
    """The verdict on two images.

    Attributes:
        similarity: cosine of the two embeddings, between -1 and 1.
        threshold: the least similarity that counts as the same person.
        same_person: whether it is reached.
    """

    similarity: float
    threshold: float
    same_person: bool


def verify(embedder: Embedder, first: Path, second: Path, threshold: float) -> Verification:
    """Compare two image files.

    Args:
        embedder: the model.
        first: an image.
        second: another image.
        threshold: a cosine similarity.

    Raises:
        DataError: an image cannot be read.
        ModelError: the model fails.
    """
    one, other = unit_length(embed_files(embedder, [first, second]))
    similarity = float(one @ other)
    return Verification(similarity, threshold, similarity >= threshold)

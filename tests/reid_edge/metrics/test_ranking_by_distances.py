"""Given distances are ranked as computed ones are."""

import pytest
import torch

from reid_edge.core.errors import DataError
from reid_edge.data.schema import Protocol
from reid_edge.metrics.distances import cosine_distance
from reid_edge.metrics.ranking import evaluate_distances, evaluate_ranking

GENERATOR = torch.Generator().manual_seed(0)
QUERIES, GALLERY = (torch.randn(count, 8, generator=GENERATOR) for count in (20, 60))
LABELS = (torch.arange(20) % 7, torch.arange(20) % 3, torch.arange(60) % 6, torch.arange(60) % 2)


@pytest.mark.parametrize("protocol", ["market1501", "single_gallery_shot"])
def test_same_as_from_features(protocol: Protocol) -> None:
    distances = cosine_distance(QUERIES, GALLERY)
    before = distances.clone()
    found = evaluate_distances(
        distances, *LABELS, distance="cosine", protocol=protocol, block_bytes=16 * 60 * 3
    )
    assert found == evaluate_ranking(
        QUERIES, *LABELS[:2], GALLERY, *LABELS[2:], distance="cosine", protocol=protocol
    )
    assert found.queries_without_match > 0
    assert torch.equal(distances, before)


def test_refused() -> None:
    distances = cosine_distance(QUERIES, GALLERY)
    with pytest.raises(DataError, match=r"gallery ids have shape \(60,\); expected \(59,\)"):
        evaluate_distances(distances[:, :59], *LABELS, distance="cosine")
    with pytest.raises(DataError, match="expected a filled matrix"):
        evaluate_distances(distances[0], *LABELS, distance="cosine")
    distances[3, 4] = float("nan")
    with pytest.raises(DataError, match="1 of 20 rows of distances features are not finite, the f"):
        evaluate_distances(distances, *LABELS, distance="cosine")

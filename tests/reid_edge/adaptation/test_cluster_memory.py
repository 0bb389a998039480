"""The memory of cluster centres: its loss and its updates."""

import pytest
import torch
from torch.nn import functional as F

from reid_edge.adaptation.cluster_memory import ClusterMemory


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clusters = torch.tensor([2, 0, 2, 2, 1, 0, 2, 1])
    return torch.randn(8, 5, generator=generator), clusters


def test_an_update_moves_centres_image_after_image(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    embeddings, clusters = batch
    start = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    memory = ClusterMemory(start, temperature=0.05, momentum=0.2)
    memory.update(embeddings, clusters)
    expected = F.normalize(start, dim=1)
    for embedding, cluster in zip(embeddings, clusters.tolist(), strict=True):
        moved = 0.2 * expected[cluster] + 0.8 * embedding / embedding.norm()
        expected[cluster] = moved / moved.norm()
    assert torch.allclose(memory.centres, expected, atol=1e-6)
    assert torch.equal(memory.centres[3], F.normalize(start, dim=1)[3])


def test_the_loss_is_the_cross_entropy_of_cosines(
    batch: tuple[torch.Tensor, torch.Tensor],
) -> None:
    embeddings, clusters = batch
    memory = ClusterMemory(torch.eye(4, 5), temperature=0.5, momentum=0.1)
    losses = []
    for embedding, cluster in zip(embeddings, clusters.tolist(), strict=True):
        cosines = embedding[:4] / embedding.norm() / 0.5
        losses.append(cosines.exp().sum().log() - cosines[cluster])
    assert float(memory.loss(embeddings, clusters)) == pytest.approx(
        float(torch.stack(losses).mean()), rel=1e-5
    )


def test_it_begins_with_the_mean_of_unit_embeddings_without_outliers() -> None:
    embeddings = torch.tensor([[2.0, 0], [0, 5], [0, 1], [3, 4]])
    memory = ClusterMemory.of_clusters(
        embeddings, torch.tensor([0, 0, -1, 1]), temperature=0.05, momentum=0.1
    )
    half = 0.5**0.5
    assert torch.allclose(memory.centres, torch.tensor([[half, half], [0.6, 0.8]]))

"""The metrics on a GPU; skipped without one."""

import pytest
import torch

from reid_edge.metrics import evaluate_ranking, pair_scores

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def labelled():
    """Features of small integers, whose distances are exact and often tie, and their labels."""
    generator = torch.Generator().manual_seed(0)
    return [
        part
        for count in (60, 500)
        for part in (
            torch.randint(-1, 2, (count, 5), generator=generator).float(),
            torch.randint(0, 20, (count,), generator=generator),
            torch.randint(0, 3, (count,), generator=generator),
        )
    ]


@pytest.mark.parametrize("protocol", ["market1501", "single_gallery_shot"])
@pytest.mark.parametrize("block_bytes", [1, 100_000, 2**26])
def test_ranking_equals_the_cpus(labelled, protocol, block_bytes):
    options = {"distance": "euclidean", "protocol": protocol, "block_bytes": block_bytes}
    on_gpu = evaluate_ranking(*(part.cuda() for part in labelled), **options)
    assert on_gpu == evaluate_ranking(*labelled, **options)


def test_only_the_queries_device_counts(labelled):
    mixed = [labelled[0].cuda(), *labelled[1:]]
    assert evaluate_ranking(*mixed, distance="euclidean") == evaluate_ranking(
        *labelled, distance="euclidean"
    )


def test_reduced_precision_is_switched_off():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 256, generator=generator)
    ids, cameras = torch.arange(300) % 30, torch.arange(300) % 7
    arguments = [part.cuda() for part in (features, ids, cameras) * 2]
    expected = pair_scores(arguments[0], ids, arguments[3], ids)
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cuda", dtype=torch.float16):
            scores = pair_scores(arguments[0], ids, arguments[3], ids)
            ranking = evaluate_ranking(*arguments)
    finally:
        torch.set_float32_matmul_precision(previous)
    assert torch.equal(scores.genuine, expected.genuine)
    assert ranking == evaluate_ranking(*arguments)

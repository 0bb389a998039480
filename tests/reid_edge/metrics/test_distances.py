from contextlib import suppress

import numpy as np
import pytest
import torch

from reid_edge.metrics import cosine_distance, euclidean_distance
from reid_edge.metrics.distances import float32_arithmetic, inner_products_with, unit_length


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 33, generator=generator), torch.randn(21, 33, generator=generator)


@pytest.fixture(params=[True, False], ids=["onednn", "blas"])
def onednn(request, monkeypatch):
    if request.param and not torch.backends.mkldnn.is_available():
        pytest.skip("this build of PyTorch has no oneDNN")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: request.param)


@pytest.mark.usefixtures("onednn")
def test_cosine_distance(features):
    queries, gallery = features
    expected = 1 - torch.cosine_similarity(queries[:, None].double(), gallery.double(), dim=-1)
    torch.testing.assert_close(cosine_distance(queries, gallery), expected.float())


@pytest.mark.usefixtures("onednn")
def test_euclidean_distance(features):
    queries, gallery = features
    expected = torch.cdist(queries.double(), gallery.double()).float()
    torch.testing.assert_close(euclidean_distance(queries, gallery), expected)


@pytest.mark.usefixtures("onednn")
def test_an_image_is_at_no_distance_from_itself(features):
    queries = features[0]
    assert float(euclidean_distance(queries, queries).diagonal().max()) < 1e-2
    assert float(cosine_distance(queries, queries).diagonal().abs().max()) < 1e-6


@pytest.mark.usefixtures("onednn")
def test_inner_products_of_slices_and_single_rows(features):
    queries, gallery = features
    products = inner_products_with(gallery)
    torch.testing.assert_close(products(queries[::2, :]), queries[::2] @ gallery.T)
    torch.testing.assert_close(products(queries[3:4]), queries[3:4] @ gallery.T)


@pytest.mark.parametrize("gallery_size", [5, 1003])
@pytest.mark.parametrize("dimensions", [7, 64, 512])
def test_equal_images_have_equal_distances_wherever_they_stand(gallery_size, dimensions):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("only oneDNN promises this")
    kinds = torch.randn(5, dimensions, generator=torch.Generator().manual_seed(0))
    which = torch.arange(gallery_size) % 5
    for rows in (1, 3, 65):
        queries = kinds[:1].repeat(rows, 1) + 1
        for distance in (cosine_distance, euclidean_distance):
            block = distance(queries, kinds[which])
            assert len(block[:, which == 2].unique()) == 1


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e38])
def test_unit_length_of_extreme_features(scale):
    features = torch.tensor([[3.0, -4.0], [0.0, 0.0]]) / 4 * scale
    expected = torch.tensor([[0.6, -0.8], [0.0, 0.0]])
    torch.testing.assert_close(unit_length(features), expected, atol=1e-4, rtol=0)


def test_float32_arithmetic_restores_the_settings_after_an_error():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with float32_arithmetic(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        with suppress(KeyError), float32_arithmetic(torch.device("cpu")):
            raise KeyError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_distances_do_not_change_their_arguments(features):
    before = [part.clone() for part in features]
    cosine_distance(*features)
    euclidean_distance(*features)
    for part, copy in zip(features, before, strict=True):
        np.testing.assert_array_equal(part.numpy(), copy.numpy())

"""The quick search for a range ends at the bits of PyTorch's own."""

import pytest
import torch
from torch import Tensor
from torch.ao.quantization import HistogramObserver

from quantize.histogram import QuickHistogramObserver


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(normal(4, 8, 16, 16), id="normal"),
        pytest.param(normal(4, 8, 16, 16).relu(), id="half zeros"),
        pytest.param(normal(4, 300) ** 5, id="outliers on both sides"),
        pytest.param((normal(4, 300).abs() ** 5).neg(), id="outliers below"),
        pytest.param(normal(2, 7).sigmoid(), id="few values"),
        pytest.param(torch.tensor([0.0, 0.0, 0.0, 1.0]), id="two values"),
    ],
)
def test_the_range_is_that_of_pytorch(values: Tensor) -> None:
    searched: list[tuple[Tensor, ...]] = []
    for reduce_range in (False, True):
        ours, theirs = (
            kind(dtype=torch.quint8, reduce_range=reduce_range)
            for kind in (QuickHistogramObserver, HistogramObserver)
        )
        for observer in (ours, theirs):
            observer(values)
            observer(1.5 * values + 0.1)
        # Their search takes seconds and does not depend on the integers.
        searched = searched or [theirs._non_linear_param_search()]
        for found, expected in zip(
            (*ours._non_linear_param_search(), *ours.calculate_qparams()),
            (*searched[0], *theirs._calculate_qparams(*searched[0])),
            strict=True,
        ):
            assert torch.equal(found, expected)

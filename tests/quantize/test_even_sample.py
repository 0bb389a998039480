import pytest
import torch

from quantize.calibrate import EvenSample


@pytest.mark.parametrize("length", [1, 4, 7, 8, 9, 31, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_the_sample_is_even(length: int, batch_size: int) -> None:
    sample = EvenSample(4)
    for batch in torch.arange(length).reshape(-1, 1, 1, 1).split(batch_size):
        sample.add(batch)
    kept = sample.images().flatten().tolist()
    stride = kept[1] - kept[0] if len(kept) > 1 else 1
    assert kept == list(range(0, length, stride))
    assert min(length, 4) <= len(kept) < 8

"""What is timed beside OSNet computes what OSNet does."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.latency import narrow
from benchmarks.latency_variants import one_gate_call, stem_on_blocks, streams_side_by_side

Change = Callable[[nn.Module], None]


@pytest.mark.parametrize("change", [one_gate_call, streams_side_by_side, stem_on_blocks])
@torch.inference_mode()
def test_a_form_of_osnet_gives_its_embeddings(
    change: Change, randomise_normalisation: Change
) -> None:
    images = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    model = narrow(randomise_normalisation)
    before = set(model.state_dict())
    expected = model(images)
    change(model)
    assert torch.allclose(model(images), expected, rtol=1e-3, atol=1e-3 * expected.abs().max())
    assert change is one_gate_call or set(model.state_dict()) != before

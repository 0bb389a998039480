"""What is not on the CPU is refused in words; torch's "meta" stands for any other device."""

import pytest
import torch
from torch import nn

from prune.layer_widths import layer_widths
from prune.nni_backend import find_groups
from prune.reconstruct import reconstruct
from prune.reconstruction_scores import reconstruction_errors, reconstruction_scores
from reid_edge.core.errors import PruneError


def test_another_device_is_named(small_net: nn.Module) -> None:
    images, elsewhere = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8, device="meta")
    kept = {name: torch.arange(width) for name, width in layer_widths(small_net).items()}
    for look in (
        lambda: find_groups(small_net, elsewhere),
        lambda: reconstruction_scores(small_net, elsewhere, widths={"stem": 4}, groups=[]),
        lambda: reconstruction_errors(small_net, elsewhere, groups=[]),
        lambda: reconstruct(small_net, small_net, kept, elsewhere),
    ):
        with pytest.raises(PruneError, match=r"^the input is on meta, .* works on the CPU: .*cpu"):
            look()
    with pytest.raises(PruneError, match=r"^SmallNet is on meta, and pruning works on the CPU"):
        find_groups(small_net.to("meta"), images)

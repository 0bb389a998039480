"""Weights go to the real torchreid and back: ``pip install torchreid==0.2.5`` to run these."""

import pytest
import torch

from reid_edge.models import build_model

NAMES = (
    "osnet_x1_0", "osnet_x0_75", "osnet_x0_5", "osnet_x0_25", "osnet_ibn_x1_0", "osnet_ain_x1_0",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_load_gives_the_same_embeddings(name: str) -> None:
    models = pytest.importorskip("torchreid.reid.models", exc_type=ImportError)
    torch.manual_seed(0)
    ours = build_model(name, num_classes=7)
    theirs = models.build_model(name, num_classes=7, pretrained=False)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), theirs.eval()(images))
    ours.load_state_dict(theirs.state_dict(), strict=True)

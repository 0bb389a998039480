"""Names and shapes are torchreid's, and weights go to the real one and back.

``pip install torchreid==0.2.5`` to run the second test.
"""

import hashlib

import pytest
import torch

from reid_edge.models import ARCHITECTURES, build_model

# SHA-256 of the names and shapes of torchreid's own models with 9 classes, at its commit
# f8cd150fdf77e8d9e1ed143b7f308c2c609ded50, each as "name (shape)", a line for each.
LAYOUTS = {
    "osnet_x1_0": "6b7c8b9bf20fcd0f",
    "osnet_x0_75": "0806890774c3b784",
    "osnet_x0_5": "85f7e27383976926",
    "osnet_x0_25": "8632be150114230d",
    "osnet_ibn_x1_0": "5f00dffafa39f3c4",
    "osnet_ain_x1_0": "25f45f0847b2b8c9",
    "osnet_ain_x0_75": "f02dc6e3ba1b4133",
    "osnet_ain_x0_5": "ddd4cdfaeb07d6e1",
    "osnet_ain_x0_25": "05e6f71075d8bc71",
}


def test_all_that_torchreid_publishes_are_here() -> None:
    shared = [name for name, known in ARCHITECTURES.items() if "torchreid" in known.published_by]
    assert sorted(shared) == sorted(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_in_their_order(name: str) -> None:
    state = build_model(name, num_classes=9).state_dict()
    lines = "\n".join(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == LAYOUTS[name]


@pytest.mark.parametrize("name", LAYOUTS)
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

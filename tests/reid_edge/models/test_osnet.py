"""OSNet is torchreid's, name by name and shape by shape."""

import pytest
import torch

from reid_edge.core.errors import ModelError
from reid_edge.models import ARCHITECTURES, build_model
from reid_edge.models.shapes import build_shapes

pytestmark = pytest.mark.medium

# torchreid's names and shapes, one of each kind, for x1.0.
SHAPES = {
    "conv1.conv.weight": (64, 3, 7, 7),
    "conv1.bn.running_var": (64,),
    "conv2.0.conv1.conv.weight": (64, 64, 1, 1),
    "conv2.0.conv2a.conv1.weight": (64, 64, 1, 1),
    "conv2.0.conv2a.conv2.weight": (64, 1, 3, 3),
    "conv2.0.conv2d.3.bn.weight": (64,),
    "conv2.0.gate.fc1.weight": (4, 64, 1, 1),
    "conv2.0.gate.fc2.bias": (64,),
    "conv2.0.downsample.conv.weight": (256, 64, 1, 1),
    "conv2.2.0.conv.weight": (256, 256, 1, 1),
    "conv4.1.conv3.bn.weight": (512,),
    "conv5.conv.weight": (512, 512, 1, 1),
    "fc.0.weight": (512, 512),
    "fc.1.running_mean": (512,),
    "classifier.weight": (9, 512),
}


def test_names_and_shapes() -> None:
    state = build_model("osnet_x1_0", num_classes=9).state_dict()
    assert len(state) == 567
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs(name: str) -> None:
    model = build_shapes(name, num_classes=6, embedding_dim=32)
    images = torch.randn(2, 3, 64, 32)
    logits, embeddings = model.train()(images)
    assert logits.shape == (2, 6)
    assert embeddings.shape == (2, 32)
    assert model.eval()(images).shape == (2, 32)


def test_instance_norm_sits_in_stem_and_first_stage() -> None:
    model = build_model("osnet_ibn_x1_0")
    found = [n for n, m in model.named_modules() if isinstance(m, torch.nn.InstanceNorm2d)]
    assert found == ["conv1.bn", "conv2.0.IN", "conv2.1.IN"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="unknown architecture 'osnet_x1_1': did you mean"):
        build_model("osnet_x1_1")

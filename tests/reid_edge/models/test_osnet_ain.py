"""OSNet-AIN is torchreid's, name by name and shape by shape."""

from torch import nn

from reid_edge.models import build_model
from reid_edge.models.complexity import measure_complexity

# torchreid's names and shapes, one of each kind.
SHAPES = {
    "conv1.conv.weight": (64, 3, 7, 7),
    "conv1.bn.bias": (64,),
    "conv2.0.conv1.bn.running_var": (64,),
    "conv2.0.conv2.0.layers.0.conv1.weight": (64, 64, 1, 1),
    "conv2.0.conv2.3.layers.3.conv2.weight": (64, 1, 3, 3),
    "conv2.0.conv2.3.layers.3.bn.weight": (64,),
    "conv2.0.gate.fc1.weight": (4, 64, 1, 1),
    "conv2.0.conv3.conv.weight": (256, 64, 1, 1),
    "conv2.0.downsample.bn.running_mean": (256,),
    "conv2.1.IN.weight": (256,),
    "pool2.0.conv.weight": (256, 256, 1, 1),
    "conv3.0.conv3.bn.weight": (384,),
    "conv3.1.IN.bias": (384,),
    "pool3.0.bn.weight": (384,),
    "conv4.1.conv3.bn.running_mean": (512,),
    "conv5.conv.weight": (512, 512, 1, 1),
    "fc.0.weight": (512, 512),
    "fc.1.running_mean": (512,),
    "classifier.weight": (9, 512),
}


def test_names_and_shapes() -> None:
    state = build_model("osnet_ain_x1_0", num_classes=9).state_dict()
    assert len(state) == 552
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES


def test_instance_norm_takes_the_place_of_batch_norm() -> None:
    model = build_model("osnet_ain_x1_0")
    found = [n for n, m in model.named_modules() if isinstance(m, nn.InstanceNorm2d)]
    assert found == ["conv1.bn", "conv2.0.IN", "conv2.1.IN", "conv3.1.IN", "conv4.0.IN"]
    assert not any(f"{name.removesuffix('IN')}conv3.bn.weight" in model.state_dict()
                   for name in found[1:])  # fmt: skip


def test_costs_are_those_of_osnet() -> None:
    # 2,193,616 as torchreid prints it, which counts the shared gates four times.
    found = measure_complexity("osnet_ain_x1_0", 256, 128)
    assert (found.parameters, round(found.macs / 1e6, 1)) == (2_169_508, 978.9)
    assert measure_complexity("osnet_ain_x0_5", 256, 128).parameters == 630_034

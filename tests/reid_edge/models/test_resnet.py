"""ResNet is torchvision's, with a head for re-identification."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from reid_edge.core.errors import ModelError
from reid_edge.models import ARCHITECTURES, build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.models.complexity import measure_complexity
from reid_edge.models.custom_widths import widths_of
from reid_edge.models.resnet import ResNet

pytestmark = pytest.mark.medium

SIZE = (64, 32)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_backbone_is_torchvisions(depth: int) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    model = ResNet(depth, last_stride=2).eval()
    state = {n: t for n, t in reference.state_dict().items() if not n.startswith("fc.")}
    outcome = model.load_state_dict(state, strict=False)
    assert outcome.missing_keys == ["classifier.weight", "classifier.bias"]
    assert outcome.unexpected_keys == []
    reference.fc = nn.Identity()
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(model(images), reference(images))


def test_the_last_stride_is_one() -> None:
    shapes: list[torch.Size] = []
    model = build_model("resnet50").eval()
    model.get_submodule("layer4").register_forward_hook(lambda *call: shapes.append(call[2].shape))
    model(torch.zeros(1, 3, 256, 128))
    assert shapes == [(1, 2048, 16, 8)]


@pytest.mark.parametrize(
    ("name", "parameters", "embedding_dim"),
    # Torchvision's numbers without its classifier of 1000 classes.
    [("resnet18", 11_689_512 - 513_000, 512), ("resnet50", 25_557_032 - 2_049_000, 2048)],
)
def test_size_and_default_embedding(name: str, parameters: int, embedding_dim: int) -> None:
    found = measure_complexity(name, 256, 128)
    assert (found.parameters, found.embedding_dim) == (parameters, embedding_dim)


def test_an_embedding_layer_where_the_size_is_another() -> None:
    assert build_model("resnet50", embedding_dim=2048).embedding is None
    layer = build_model("resnet50", embedding_dim=128).embedding
    assert isinstance(layer, nn.Sequential)
    assert [type(module) for module in layer] == [nn.Linear, nn.BatchNorm1d]


def test_bnneck_trains_before_and_evaluates_behind_its_normalisation() -> None:
    torch.manual_seed(0)
    model = build_model("resnet18_bnneck", num_classes=5)
    neck, classifier = model.get_submodule("bottleneck"), model.get_submodule("classifier")
    images = torch.randn(4, 3, *SIZE)
    seen: list[torch.Tensor] = []
    neck.register_forward_hook(lambda *call: seen.extend((call[1][0], call[2])))
    logits, embeddings = model.train()(images)
    assert torch.equal(embeddings, seen[0])
    assert torch.equal(logits, classifier(seen[1]))
    assert classifier.bias is None
    assert not neck.get_parameter("bias").requires_grad
    seen.clear()
    found = model.eval()(images)
    assert torch.equal(found, seen[1])


@pytest.mark.parametrize(
    ("name", "embedding_dim", "widths"),
    [
        # The last stream is the embedding, whose size is not halved.
        ("resnet18_x0_5", None, {"layer3.1.conv2": [128, 128], "layer4.1.conv1": [512, 256],
                                 "layer4.1.conv2": [256, 512]}),
        ("resnet18_x0_5", 64, {"layer4.1.conv2": [256, 256], "embedding.0": [256, 64]}),
        ("resnet50_x0_5", None, {"layer3.0.downsample.0": [256, 512], "layer4.0.conv2": [256, 256],
                                 "layer4.2.conv3": [256, 2048]}),
        ("resnet50_bnneck_x0_5", 64, {"layer4.2.conv3": [256, 1024], "embedding.0": [1024, 64]}),
    ],
)  # fmt: skip
def test_half_widths(name: str, embedding_dim: int | None, widths: dict[str, list[int]]) -> None:
    found = widths_of(build_model(name, embedding_dim=embedding_dim))
    assert found["conv1"] == [3, 32]
    assert found["layer1.0.conv1"] == [32, 32]
    assert {layer: found[layer] for layer in widths} == widths


@pytest.mark.parametrize("embedding_dim", [None, 32])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet18_bnneck", "resnet18_fastreid", "resnet50_x0_5"]
)
def test_a_checkpoint_comes_back(tmp_path: Path, name: str, embedding_dim: int | None) -> None:
    declared = ARCHITECTURES.load(name)
    # Of fewer channels: 45 MB are written and read for nothing otherwise.
    narrow = replace(declared, build=partial(declared.build, width=0.25))
    model = build_model(narrow, num_classes=3, embedding_dim=embedding_dim).eval()
    info = describe(model, narrow, input_size=SIZE)
    assert info.architecture == name
    assert info.widths == {}
    save_checkpoint(tmp_path / "m.pt", model, info)
    loaded, _ = load_checkpoint(tmp_path / "m.pt", narrow)
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(loaded(images), model(images))


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(ModelError, match="no ResNet of depth 35: known are 18, 34, 50, 101"):
        ResNet(35)
    with pytest.raises(ModelError, match=r"width 0\.001 has layers without a channel"):
        ResNet(18, width=0.001)


def test_last_stride() -> None:
    shapes = {}
    for name in ("resnet18", "resnet18_last_stride_2"):
        model = build_model(name).eval()
        model.global_avgpool.register_forward_pre_hook(
            lambda _, maps, name=name: shapes.update({name: tuple(maps[0].shape)})
        )
        model(torch.zeros(1, 3, 64, 32))
    assert shapes == {"resnet18": (1, 512, 4, 2), "resnet18_last_stride_2": (1, 512, 2, 1)}

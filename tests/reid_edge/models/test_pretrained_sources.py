"""Files of other programs: what is taken from each, and what is said of the rest."""

from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.models.pretrained import architecture_from_name, load_pretrained
from tests.networks import built

pytestmark = pytest.mark.medium

State = dict[str, Tensor]


@cache
def torchvision_state(name: str) -> State:
    torch.manual_seed(1)
    return dict(getattr(torchvision.models, name)(weights=None).state_dict())


def backbone(state: State, prefix: str = "") -> State:
    return {prefix + name: value for name, value in state.items() if not name.startswith("fc.")}


def fastreid_state(layer: int | None = None, classes: int = 4) -> State:
    """What FastReID's bag of tricks saves: ResNet-50, BNNeck, a reduction if asked for."""
    size = layer or 2048
    neck: list[nn.Module] = [nn.Conv2d(2048, layer, 1, bias=False)] if layer else []
    neck.append(nn.BatchNorm2d(size))
    head = nn.Sequential(*neck).state_dict(prefix="heads.bottleneck.")
    return {
        "pixel_mean": torch.zeros(1, 3, 1, 1),
        "pixel_std": torch.ones(1, 3, 1, 1),
        **backbone(torchvision_state("resnet50"), "backbone."),
        **head,
        "heads.weight": torch.randn(classes, size),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50_bnneck"])
def test_imagenet_weights_are_a_backbone(tmp_path: Path, name: str) -> None:
    state = torchvision_state(name.removesuffix("_bnneck"))
    torch.save(state, tmp_path / "w.pth")
    model = built(name, num_classes=4, embedding_dim=64)
    report = load_pretrained(model, tmp_path / "w.pth")
    assert report.dropped == ("fc.bias", "fc.weight")
    assert report.incompatibilities == ()
    assert {item.split(".")[0] for item in report.missing} == (
        {"classifier", "embedding", "bottleneck"} if "bnneck" in name
        else {"classifier", "embedding"}
    )  # fmt: skip
    assert set(report.taken) == set(backbone(state))
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_layumi(tmp_path: Path) -> None:
    state = {f"model.{name}": value for name, value in torchvision_state("resnet50").items()}
    state |= {
        "classifier.add_block.0.weight": torch.randn(512, 2048),
        "classifier.add_block.0.bias": torch.randn(512),
        "classifier.classifier.0.weight": torch.randn(751, 512),
    }
    torch.save(state, tmp_path / "net_last.pth")
    model = built("resnet50", num_classes=751)
    report = load_pretrained(model, tmp_path / "net_last.pth")
    assert report.dropped == (
        "classifier.add_block.0.bias", "classifier.add_block.0.weight",
        "classifier.classifier.0.weight", "fc.bias", "fc.weight",
    )  # fmt: skip
    assert report.missing == ("classifier.bias", "classifier.weight")
    assert str(report).endswith("; the file does not say its last stride, the model's is 1")
    assert torch.equal(model.state_dict()["conv1.weight"], state["model.conv1.weight"])
    # A training begins without it; its embeddings are there, so that nothing else can.
    (incompatibility,) = report.incompatibilities
    assert incompatibility.startswith(
        "'classifier.add_block.0.bias' is part of the embedding there and"
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_fastreid_with_its_neck(tmp_path: Path, prefix: str) -> None:
    state = fastreid_state()
    content = {"model": {prefix + name: value for name, value in state.items()}, "iteration": 1}
    torch.save(content, tmp_path / "model_best.pth")
    model = built("resnet50_bnneck", num_classes=4)
    report = load_pretrained(model, tmp_path / "model_best.pth")
    assert (report.dropped, report.missing) == (("pixel_mean", "pixel_std"), ())
    own = model.state_dict()
    assert torch.equal(own["bottleneck.weight"], state["heads.bottleneck.0.weight"])
    assert torch.equal(own["classifier.weight"], state["heads.weight"])


def test_fastreid_with_a_reduction(tmp_path: Path) -> None:
    state = fastreid_state(layer=64)
    torch.save({"model": state}, tmp_path / "model_best.pth")
    model = built("resnet50_bnneck", num_classes=9, embedding_dim=64)
    report = load_pretrained(model, tmp_path / "model_best.pth")
    assert report.missing == ("classifier.weight",)
    weight = model.state_dict()["embedding.0.weight"]
    assert torch.equal(weight, state["heads.bottleneck.0.weight"].flatten(1))


def test_fastreid_without_a_neck_here(tmp_path: Path) -> None:
    torch.save({"model": fastreid_state()}, tmp_path / "model_best.pth")
    report = load_pretrained(built("resnet50", num_classes=4), tmp_path / "model_best.pth")
    assert "bottleneck.weight" in report.dropped
    assert [incompatibility.partition(" ")[0] for incompatibility in report.incompatibilities] == [
        "'bottleneck.bias'", "FastReID's",
    ]  # fmt: skip
    assert report.missing == ("classifier.bias",)


def test_fastreid_osnet_has_no_embedding_layer(tmp_path: Path) -> None:
    own = built("osnet_x0_25").state_dict()
    state = {f"backbone.{name}": value for name, value in own.items()
             if not name.startswith(("fc.", "classifier."))}  # fmt: skip
    torch.save({"model": state}, tmp_path / "w.pth")
    report = load_pretrained(built("osnet_x0_25"), tmp_path / "w.pth")
    assert {name.split(".")[0] for name in report.missing} == {"classifier", "fc"}


def test_a_head_in_part_is_refused(tmp_path: Path) -> None:
    state = built("resnet18_bnneck").state_dict()
    del state["bottleneck.running_mean"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"'bottleneck.running_mean' of the model is not in"):
        load_pretrained(built("resnet18_bnneck"), tmp_path / "w.pth")


def test_an_embedding_layer_of_another_size_is_refused(tmp_path: Path) -> None:
    torch.save(built("resnet18", embedding_dim=64).state_dict(), tmp_path / "w.pth")
    model = built("resnet18", embedding_dim=32)
    with pytest.raises(CheckpointError, match=r"'embedding.0.weight' has shape \(64, 512\)"):
        load_pretrained(model, tmp_path / "w.pth")


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    state = fastreid_state()
    state["backbone.layer1.0.bn1.IN.weight"] = state.pop("backbone.layer1.0.bn1.weight")
    torch.save({"model": state}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"'layer1.0.bn1.IN.weight' is in the file but not"):
        load_pretrained(built("resnet50_bnneck"), tmp_path / "w.pth")


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.zeros(1), "model.conv1.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"holds 'conv1.weight' twice"):
        load_pretrained(built("resnet18"), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("osnet_x0_25_msmt17.pt", "osnet_x0_25"),
        ("osnet_ain_x1_0_msmt17.pt", "osnet_ain_x1_0"),
        ("osnet_ibn_x1_0_market1501.pth.tar-60", "osnet_ibn_x1_0"),
        ("OSNet_x1_0.pth", "osnet_x1_0"),
        ("resnet50-0676ba61.pth", "resnet50"),
        ("resnet50_bnneck_x0_5.pt", "resnet50_bnneck_x0_5"),
        ("resnet50_last_stride_2.pt", "resnet50_last_stride_2"),
    ],
)
def test_architecture_from_name(name: str, architecture: str) -> None:
    assert architecture_from_name(Path("weights") / name) == architecture


@pytest.mark.parametrize("name", ["mlfn_msmt17.pt", "resnet500.pt", "my_osnet_x0_25.pt"])
def test_names_without_an_architecture(name: str) -> None:
    with pytest.raises(
        CheckpointError,
        match=rf"{name}: neither the file nor the start of its name says .* osnet_x0_25",
    ):
        architecture_from_name(Path(name))

"""Which layers learn, when, and how fast."""

import pytest
from torch import nn

from reid_edge.core.errors import TrainingError
from reid_edge.models import build_model
from reid_edge.training.layers import match_layers, split_head
from reid_edge.training.module import make_optimizer
from reid_edge.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def osnet() -> nn.Module:
    return build_model("osnet_x0_25", num_classes=3, embedding_dim=16)


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        ("osnet_x0_25", {"fc.0", "fc.1", "classifier"}),
        ("osnet_ain_x0_5", {"fc.0", "fc.1", "classifier"}),
        ("resnet18", {"embedding.0", "embedding.1", "classifier"}),
        ("resnet18_bnneck", {"embedding.0", "bottleneck", "classifier"}),
    ],
)
def test_the_head_is_what_is_behind_the_pooling(architecture: str, head: set[str]) -> None:
    model = build_model(architecture, num_classes=3, embedding_dim=16)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    first, second = split_head(model)
    assert {names[id(parameter)].rpartition(".")[0] for parameter in second} == head
    assert sorted(names[id(p)] for p in (*first, *second)) == sorted(names.values())


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "amsgrad", "sgd"])
def test_the_head_has_a_rate_of_its_own(osnet: nn.Module, optimizer: str) -> None:
    settings = TrainingSettings.model_validate({"optimizer": optimizer, "learning_rate": 1e-3})
    assert {g["lr"] for g in make_optimizer(osnet, settings).param_groups} == {1e-3}
    settings = settings.model_copy(update={"head_learning_rate": 0.1})
    groups = make_optimizer(osnet, settings).param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in osnet.named_parameters():
        assert rates[id(parameter)] == (0.1 if name.startswith(("fc", "classifier")) else 1e-3)


def test_patterns_name_modules_with_all_that_is_in_them(osnet: nn.Module) -> None:
    assert match_layers(osnet, ["conv1"]) == [osnet.get_submodule("conv1")]
    found = match_layers(osnet, ["conv[12]", "conv5"])
    assert {id(module) for module in found} == {
        id(osnet.get_submodule(name)) for name in ("conv1", "conv2", "conv5")
    }


def test_a_pattern_that_fits_nothing_is_named_with_the_nearest(osnet: nn.Module) -> None:
    message = r"frozen_layers: the model has no layer 'convv1'; the nearest are .*conv1"
    with pytest.raises(TrainingError, match=message):
        match_layers(osnet, ["conv2", "convv1"])


def test_something_has_to_learn(osnet: nn.Module) -> None:
    message = r"frozen_layers: \* leave no layer that the losses train"
    with pytest.raises(TrainingError, match=message):
        match_layers(osnet, ["*"])
    backbone = ["conv[1-5]", "fc"]
    assert match_layers(osnet, backbone)
    with pytest.raises(TrainingError, match="no layer that the losses train"):
        match_layers(osnet, backbone, classifier_learns=False)

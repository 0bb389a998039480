"""Weights are found in whatever programs wrap them in, and several in a file are told apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.pretrained import load_pretrained

pytestmark = pytest.mark.usefixtures("short_networks")

NAME = "small_net"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state(short_networks: None) -> State:
    torch.manual_seed(1)
    return dict(build_model(NAME, num_classes=3).state_dict())


@pytest.fixture(scope="module")
def averaged(state: State) -> State:
    return {
        name: value * 2 if value.is_floating_point() else value for name, value in state.items()
    }


def named(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def loaded(path: Path, content: Any, key: str | None = None) -> tuple[State, str]:
    torch.save(content, path)
    model = build_model(NAME, num_classes=3)
    report = load_pretrained(model, path, key)
    return dict(model.state_dict()), str(report)


def same(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "prefix",
    [
        "", "module.", "model.", "net.", "network.", "backbone.", "encoder.",
        # torch.compile within and around DataParallel, and in Lightning.
        "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.",
        "model.module._orig_mod.", "module.model.", "net.backbone.", "module.net._orig_mod.model.",
        # What nobody thought of, where the whole backbone is behind it.
        "student.", "module.feature_extractor.", "reid_net.osnet.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_modules_that_hold_the_model(
    tmp_path: Path, state: State, prefix: str, key: str | None
) -> None:
    content = named(state, prefix)
    found, said = loaded(tmp_path / "w.pth", content if key is None else {key: content})
    assert same(found, state)
    assert said.startswith("w.pth: 28 tensors taken, 0 dropped, 0 missing")


@pytest.mark.parametrize("key", ["net", "model", "model_state_dict", "weights", "module", "ema"])
def test_keys_of_the_weights(tmp_path: Path, state: State, key: str) -> None:
    content = {key: named(state, "module."), "epoch": 3, "optimizer": {"state": {}}}
    found, said = loaded(tmp_path / "w.pth", content)
    assert same(found, state)
    assert "are taken, not" not in said


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("state_dict", "state_dict_ema"),  # timm
        ("state_dict", "ema_state_dict"),  # mmengine
        ("state_dict", "current_model_state"),  # Lightning's averaging
        ("model", "model_ema"), ("model", "ema"), ("net", "net_ema"), ("params", "params_ema"),
    ],
)  # fmt: skip
def test_averaged_weights_beside_the_others(
    tmp_path: Path, state: State, averaged: State, usual: str, other: str
) -> None:
    path, content = tmp_path / "w.pth", {other: named(averaged, "module."), usual: state}
    found, said = loaded(path, content)
    assert same(found, state)
    assert (
        f"the weights under {usual!r} are taken, not those of {other!r} (choose by --weights-key "
        "KEY, or train.pretrained_key of a run)"
    ) in said
    found, said = loaded(path, content, other)
    assert same(found, averaged)
    assert f"the weights under {other!r} are taken, not those of {usual!r}" in said


def test_the_real_averaged_model(tmp_path: Path, state: State) -> None:
    model = build_model(NAME, num_classes=3)
    model.load_state_dict(state)
    average = torch.optim.swa_utils.AveragedModel(model)
    found, said = loaded(tmp_path / "w.pth", average.state_dict())
    assert same(found, state)
    assert "1 (n_averaged) dropped, 0 missing" in said


def test_what_a_lightning_module_has_beside_the_model(tmp_path: Path, state: State) -> None:
    beside = {
        "center_loss.centers": torch.randn(3, 512), "criterion.weight": torch.ones(3),
        "val_metrics.total": torch.zeros(1), "queue": torch.ones(4, 2), "queue_ptr": torch.zeros(1),
    }  # fmt: skip
    path = tmp_path / f"{NAME}.ckpt"
    found, said = loaded(path, {"state_dict": named(state, "model.") | beside, "epoch": 1})
    assert same(found, state)
    assert "28 tensors taken, 5 (center_loss.centers, " in said
    assert load_embedder(path).space.architecture == NAME


def test_several_models_in_a_file(tmp_path: Path, state: State, averaged: State) -> None:
    path = tmp_path / f"{NAME}.pth"
    content = {"state_dict": named(state, "student.") | named(averaged, "teacher.")}
    with pytest.raises(
        CheckpointError, match=r"holds several models: student, teacher; choose by --weights-key"
    ):
        loaded(path, content)
    found, _ = loaded(path, content, "teacher")
    assert same(found, averaged)
    with pytest.raises(CheckpointError, match=r"no weights under 'ema'; there are state_dict, stu"):
        loaded(path, content, "ema")
    one, other = (load_embedder(path, weights_key=key) for key in ("student", "teacher"))
    assert one.space.difference(other.space) == "other weights of the file"
    with pytest.raises(CheckpointError, match=r"holds weights under a, b; choose by --weights-key"):
        loaded(path, {"a": state, "b": averaged})


def test_a_backbone_of_its_own_name_stays(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            self.model = nn.Conv2d(4, 4, 1)
            self.classifier = nn.Linear(4, 2)

    model, other = Own(), Own()
    for prefix in ("", "module."):
        torch.save(named(dict(model.state_dict()), prefix), tmp_path / "w.pth")
        assert load_pretrained(other, tmp_path / "w.pth").missing == ()
        assert same(dict(other.state_dict()), dict(model.state_dict()))


def test_names_that_are_no_text(tmp_path: Path, state: State) -> None:
    with pytest.raises(CheckpointError, match=r"w.pth: does not fit the model: '5' is in the file"):
        loaded(tmp_path / "w.pth", {**state, 5: torch.ones(1)})
    with pytest.raises(CheckpointError, match="no weights in it"):
        loaded(tmp_path / "w.pth", {1: 2, "state_dict": {3: 4}})

"""Weights from elsewhere load with a report, or not at all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_edge.core.errors import CheckpointError
from reid_edge.models import build_model
from reid_edge.models.pretrained import load_pretrained

pytestmark = pytest.mark.medium

SHARED = Path(__file__).resolve().parents[4] / "shared" / "weights"


def save(path: Path, num_classes: int, **wrapping: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    state = build_model("osnet_x0_25", num_classes=num_classes).state_dict()
    prefix = str(wrapping.pop("prefix", ""))
    content: dict[str, object] = {prefix + name: value for name, value in state.items()}
    key = wrapping.pop("key", None)
    torch.save({str(key): content, **wrapping} if key else content, path)
    return dict(state)


@pytest.mark.parametrize(
    "wrapping",
    [
        {},
        {"key": "state_dict", "epoch": 60, "rank1": np.float64(0.94)},
        {"key": "state_dict", "prefix": "module.", "rank1": np.float32(0.9)},
        {"key": "model"},
    ],
    ids=["bare", "torchreid", "DataParallel", "FastReID"],
)
def test_known_layouts(tmp_path: Path, wrapping: dict[str, object]) -> None:
    state = save(tmp_path / "w.pth", 751, **wrapping)
    model = build_model("osnet_x0_25", num_classes=5)
    report = load_pretrained(model, tmp_path / "w.pth")
    assert report.dropped == ("classifier.bias", "classifier.weight")
    assert report.missing == ("classifier.bias", "classifier.weight")
    assert len(report.taken) == 565
    assert "565 tensors taken, 2 (classifier.bias, classifier.weight) dropped" in str(report)
    assert torch.equal(model.state_dict()["fc.0.weight"], state["fc.0.weight"])
    assert model.state_dict()["classifier.weight"].shape == (5, 512)


def test_a_classifier_of_the_same_size_is_taken(tmp_path: Path) -> None:
    state = save(tmp_path / "w.pth", 5)
    model = build_model("osnet_x0_25", num_classes=5)
    assert load_pretrained(model, tmp_path / "w.pth").dropped == ()
    assert torch.equal(model.state_dict()["classifier.weight"], state["classifier.weight"])


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "w.pth", 5)
    model = build_model("osnet_x0_5")
    before = model.state_dict()["conv1.conv.weight"].clone()
    with pytest.raises(CheckpointError, match=r"does not fit the model: .* has shape \(16,\)"):
        load_pretrained(model, tmp_path / "w.pth")
    assert torch.equal(model.state_dict()["conv1.conv.weight"], before)


def test_an_incomplete_backbone_is_refused(tmp_path: Path) -> None:
    state = build_model("osnet_x0_25").state_dict()
    del state["conv3.0.gate.fc1.bias"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"'conv3.0.gate.fc1.bias' of the model is not in"):
        load_pretrained(build_model("osnet_x0_25"), tmp_path / "w.pth")
    torch.save({**build_model("osnet_x0_25").state_dict(), "layer1.weight": torch.zeros(1)},
               tmp_path / "w.pth")  # fmt: skip
    with pytest.raises(CheckpointError, match=r"'layer1.weight' is in the file but not in"):
        load_pretrained(build_model("osnet_x0_25"), tmp_path / "w.pth")


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no weights in it"):
        load_pretrained(build_model("osnet_x0_25"), tmp_path / "w.pth")


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real weights here")
def test_real_checkpoints() -> None:
    report = load_pretrained(build_model("osnet_x1_0"), SHARED / "osnet_x1_0_msmt17.pth")
    assert (len(report.taken), report.dropped) == (565, ())
    model = build_model("osnet_x0_25", num_classes=1041)
    report = load_pretrained(model, SHARED / "osnet_x0_25_msmt17.pth")
    assert (len(report.taken), report.dropped, report.missing) == (567, (), ())

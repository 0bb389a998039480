"""OSNet with a BNNeck: what each loss sees, its sizes, and that it is pruned as others are."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.settings_io import load_config
from pipeline.shipped_configs import shipped_folder
from prune.layer_widths import layer_widths
from prune.surgery import cut
from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.models.custom_widths import widths_of
from reid_edge.training.layers import split_head
from reid_edge.training.module import make_optimizer

pytestmark = pytest.mark.medium

SIZE = (64, 32)
Randomise = Callable[[nn.Module], None]


@pytest.mark.parametrize(
    ("name", "embedding_dim"),
    [("osnet_x0_25_bnneck", None), ("osnet_x0_25_bnneck", 16), ("osnet_ain_x0_5_bnneck", None)],
)
def test_distances_before_and_classes_behind_the_neck(name: str, embedding_dim: int | None) -> None:
    torch.manual_seed(0)
    model = build_model(name, num_classes=5, embedding_dim=embedding_dim)
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
    assert torch.equal(model.eval()(images), seen[1])


@pytest.mark.parametrize(
    ("name", "embedding_dim", "widths"),
    [
        ("osnet_x1_0_bnneck", None, {"conv5.conv": [512, 512], "classifier": [512, 3]}),
        # The last layer is the embedding, whose size is not halved.
        ("osnet_x0_5_bnneck", None, {"conv5.conv": [256, 512], "classifier": [512, 3]}),
        ("osnet_x0_5_bnneck", 64, {"conv5.conv": [256, 256], "embedding.0": [256, 64]}),
        ("osnet_x0_5_fastreid", None, {"conv5.conv": [256, 256], "classifier": [256, 3]}),
        ("osnet_ain_x0_5_bnneck", None, {"conv5.conv": [256, 512], "classifier": [512, 3]}),
    ],
)
def test_sizes(name: str, embedding_dim: int | None, widths: dict[str, list[int]]) -> None:
    found = widths_of(build_model(name, num_classes=3, embedding_dim=embedding_dim))
    assert {layer: found[layer] for layer in widths} == widths
    assert "fc.0" not in found


@pytest.mark.medium
@pytest.mark.parametrize("embedding_dim", [None, pytest.param(32, marks=pytest.mark.slow)])
def test_it_is_cut_to_a_narrower_one(
    tmp_path: Path, embedding_dim: int | None, randomise_normalisation: Randomise
) -> None:
    torch.manual_seed(0)
    full, stock = (
        build_model(name, num_classes=3, embedding_dim=embedding_dim).eval()
        for name in ("osnet_x0_5_bnneck", "osnet_x0_25_bnneck")
    )
    randomise_normalisation(full)
    images = torch.randn(2, 3, *SIZE)
    compact = cut(full, layer_widths(stock), example=images, check_input=images).model
    stock.load_state_dict(compact.state_dict(), strict=True)
    with torch.no_grad():
        expected = compact(images)
        assert torch.equal(stock(images), expected)
    info = describe(compact, "osnet_x0_25_bnneck", input_size=SIZE)
    assert info.widths == {}
    save_checkpoint(tmp_path / "m.pt", compact, info)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "m.pt")[0](images), expected)


@torch.inference_mode()
def test_fastreids_osnet(tmp_path: Path, randomise_normalisation: Randomise) -> None:
    torch.manual_seed(0)
    ours = build_model("osnet_x0_25").eval()
    randomise_normalisation(ours)
    neck = nn.BatchNorm2d(128).eval()
    randomise_normalisation(neck)
    state = {
        f"backbone.{name}": value
        for name, value in ours.state_dict().items()
        if not name.startswith(("fc.", "classifier."))
    }
    state |= {f"heads.bottleneck.0.{name}": value for name, value in neck.state_dict().items()}
    state["heads.weight"] = torch.ones(4, 128)
    torch.save({"model": state}, tmp_path / "model_best.pth")
    pooled: list[torch.Tensor] = []
    ours.get_submodule("global_avgpool").register_forward_hook(lambda *call: pooled.append(call[2]))
    images = torch.randn(2, 3, *SIZE)
    ours(images.contiguous(memory_format=torch.channels_last))
    embedder = load_embedder(tmp_path / "model_best.pth")
    assert embedder.space.architecture == "osnet_x0_25_fastreid"
    found = torch.from_numpy(embedder.embed(images.numpy()))
    assert torch.allclose(found, neck(pooled[0])[..., 0, 0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_strong_baseline() -> None:
    config = load_config(shipped_folder() / "reid.yaml")
    train = config.train
    assert config.model.architecture == "osnet_x1_0_bnneck"
    assert config.data.validation_share == 0.2
    assert (train.epochs, train.identities_per_batch, train.images_per_identity) == (60, 16, 4)
    assert (train.losses.label_smoothing, train.losses.triplet_margin) == (0.1, 0.3)
    assert train.warmup_epochs == 5
    model = build_model("osnet_x0_25_bnneck", num_classes=3, embedding_dim=16)
    for settings in (train, load_config(shipped_folder() / "face.yaml").train):
        backbone, head = make_optimizer(model, settings).param_groups
        assert (backbone["lr"], head["lr"]) == (3.5e-5, 3.5e-4)
    names = {
        name for name, parameter in model.named_parameters() if parameter in {*split_head(model)[1]}
    }
    assert names == {
        "embedding.0.weight",
        "bottleneck.weight",
        "bottleneck.bias",
        "classifier.weight",
    }

"""Checkpoints for torchreid and BoxMOT: what is in them, and what they cannot carry.

The real programs load them where they are installed: ``pip install torchreid==0.2.5`` and
``pip install boxmot==25.0.0`` to run all of these.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from reid_edge.core.errors import ModelError
from reid_edge.core.exporter import ExportSource
from reid_edge.core.model_file import ModelMetadata, boxmot_name
from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.boxmot_files import BOXMOT, save_boxmot
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.checkpoint_info import CheckpointInfo
from reid_edge.models.torchreid_files import TORCHREID, save_torchreid

pytestmark = pytest.mark.medium

NAME = "osnet_x0_25"


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model(NAME, num_classes=7).eval()


@pytest.fixture(scope="module")
def info(model: nn.Module) -> CheckpointInfo:
    return describe(model, NAME, input_size=(64, 32), metrics={"rank1": 0.5})


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_our_own_loader_reads_both(
    model: nn.Module, info: CheckpointInfo, images: torch.Tensor, tmp_path: Path
) -> None:
    save_torchreid(tmp_path / "model.pth.tar", model, info, epoch=3)
    save_boxmot(tmp_path / f"{boxmot_name(NAME, 'Market-1501')}.pt", model, info)
    content = torch.load(tmp_path / "model.pth.tar", weights_only=True)
    assert {key: content[key] for key in ("epoch", "rank1")} == {"epoch": 3, "rank1": 0.5}
    for name in ("model.pth.tar", "osnet_x0_25_market1501.pt"):
        embed = load_embedder(tmp_path / name, architecture=NAME).embed
        # The layout that checkpoints are run in decides the order of sums, and so the last bits.
        expected = model(images.to(memory_format=torch.channels_last))
        assert torch.equal(torch.from_numpy(embed(images.numpy())), expected)


def test_the_exporters_describe_the_model_of_the_export(
    model: nn.Module, info: CheckpointInfo, tmp_path: Path
) -> None:
    source = ExportSource(
        model, torch.zeros(1, 3, 64, 32), ModelMetadata(NAME), tuple, accuracy={"rank1": 0.5}
    )
    for exporter, save in ((TORCHREID, save_torchreid), (BOXMOT, save_boxmot)):
        exporter.write(source, tmp_path / "exported")
        save(tmp_path / "saved", model, info)
        exported, saved = (
            torch.load(tmp_path / name, weights_only=True) for name in ("exported", "saved")
        )
        assert exported.keys() == saved.keys()
        weights = exported.pop("state_dict"), saved.pop("state_dict")
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert exported == saved


def test_our_own_loader_takes_the_input_size_that_boxmots_says(
    model: nn.Module, info: CheckpointInfo, tmp_path: Path
) -> None:
    path = tmp_path / f"{boxmot_name(NAME, 'own')}.pt"
    save_boxmot(path, model, info)
    assert load_embedder(path).space.input_size == (64, 32)
    assert load_embedder(path, input_size=(96, 48)).space.input_size == (96, 48)


@torch.inference_mode()
def test_torchreid_loads_it_strictly(
    model: nn.Module, info: CheckpointInfo, images: torch.Tensor, tmp_path: Path
) -> None:
    models = pytest.importorskip("torchreid.reid.models", exc_type=ImportError)
    tools = pytest.importorskip("torchreid.reid.utils.torchtools", exc_type=ImportError)
    path = tmp_path / "model.pth.tar"
    save_torchreid(path, model, info, epoch=3)
    theirs = models.build_model(NAME, num_classes=7, pretrained=False)
    # Its own way on from a checkpoint; it loads strictly.
    assert tools.resume_from_checkpoint(str(path), theirs) == 3
    assert torch.equal(theirs.eval()(images), model(images))


@torch.inference_mode()
def test_boxmot_loads_it_strictly(
    model: nn.Module, info: CheckpointInfo, images: torch.Tensor, tmp_path: Path
) -> None:
    registry = pytest.importorskip("boxmot.reid.core.registry", exc_type=ImportError)
    loader = registry.ReIDModelRegistry
    path = tmp_path / f"{boxmot_name(NAME, 'own')}.pt"
    save_boxmot(path, model, info)
    name, classes = loader.get_model_name(path), loader.get_nr_classes(path)
    assert (name, classes) == (NAME, 7)
    assert loader.get_checkpoint_model_kwargs(path) == {"img_size": (64, 32)}
    theirs = loader.build_model(name, path, num_classes=classes, pretrained=False, use_gpu=False)
    loader.load_pretrained_weights(theirs, path)
    # BoxMOT drops in silence what does not fit; nothing may have been dropped.
    state = theirs.state_dict()
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert torch.equal(theirs.eval()(images), model(images))


def test_widths_of_ones_own_are_refused_in_one_line(model: nn.Module, tmp_path: Path) -> None:
    info = CheckpointInfo(NAME, 7, 512, (64, 32), widths={"conv1.conv": (3, 12)})
    for save in (save_torchreid, save_boxmot):
        with pytest.raises(ModelError) as error:
            save(tmp_path / "x", model, info)
        assert "cannot carry widths of one's own" in str(error.value)
        assert "this model's conv1.conv has (3, 12) channels" in str(error.value)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "dimensions"), [("resnet18", 512), (NAME, 32)])
def test_models_that_they_do_not_build_are_refused(name: str, dimensions: int) -> None:
    info = CheckpointInfo(name, 7, dimensions, (64, 32))
    with pytest.raises(ModelError, match=f"do not build {name} with {dimensions} dimensions"):
        save_boxmot(Path("x"), nn.Identity(), info)


@pytest.mark.parametrize("name", ["osnet_ain_x0_75", "osnet_ain_x0_5", "osnet_ain_x0_25"])
def test_narrow_ains_are_written_for_both(name: str, tmp_path: Path) -> None:
    narrow = build_model(name, num_classes=3)
    info = describe(narrow, name, input_size=(64, 32))
    save_torchreid(tmp_path / "model.pth.tar", narrow, info)
    save_boxmot(tmp_path / f"{boxmot_name(name, 'own')}.pt", narrow, info)
    assert torch.load(tmp_path / f"{name}_own.pt", weights_only=True)["model_name"] == name
    assert load_embedder(tmp_path / f"{name}_own.pt").space.architecture == name
    path = tmp_path / "model.pth.tar"
    assert load_embedder(path, architecture=name).space.architecture == name


def test_names_as_boxmot_reads_them() -> None:
    assert boxmot_name("osnet_x0_5", "Market-1501-v15") == "osnet_x0_5_market1501v15"
    assert boxmot_name("osnet_x0_5", "...") == "osnet_x0_5_own"


def test_the_documented_code_for_torchreid_at_another_embedding_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor
) -> None:
    pytest.importorskip("torchreid.reid.models", exc_type=ImportError)
    page = Path(__file__).resolve().parents[3] / "docs" / "guide" / "export.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if "torchreid" in block)
    torch.manual_seed(0)
    ours = build_model("osnet_x0_5", num_classes=7, embedding_dim=64).eval()
    path = tmp_path / "runs" / "osnet_x0_5" / "finetune" / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    save_checkpoint(path, ours, describe(ours, "osnet_x0_5", input_size=(64, 32)))
    monkeypatch.chdir(tmp_path)
    left = {"images": images}
    exec(compile(code, str(page), "exec"), left)
    assert torch.allclose(left["embeddings"], ours(images), atol=1e-5)

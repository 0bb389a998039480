"""A model beside its teacher, on images without identities."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from reid_edge.cli.main import main
from reid_edge.data.schema import ReidData
from reid_edge.metrics.results import Evaluation
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.registry import build_model
from tests.networks import small_networks
from tests.plain_lines import is_plain


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A teacher and a narrower student, with embeddings of other sizes."""
    folder = tmp_path_factory.mktemp("models")
    with small_networks():
        for name, size in (("small_net", 32), ("small_net_x0_5", 16)):
            torch.manual_seed(size)
            model = build_model(name, num_classes=1, embedding_dim=size)
            save_checkpoint(
                folder / f"{name}.pt", model, describe(model, name, input_size=(64, 32))
            )
    return folder / "small_net.pt", folder / "small_net_x0_5.pt"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory, tiny_data: ReidData) -> Path:
    root = tmp_path_factory.mktemp("crops")
    for number, image in enumerate(tiny_data.train):
        folder = root / f"c{image.camera}_t{image.person}"
        folder.mkdir(exist_ok=True)
        shutil.copy(image.path, folder / f"{number:02d}.jpg")
    return root


def test_a_model_beside_its_teacher(
    models: tuple[Path, Path], crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, student = map(str, models)
    arguments = ["evaluate", "--data", str(crops), "--as", "tracklets", "--teacher", teacher]
    with small_networks():
        assert main([*arguments, "--weights", student, "--output", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert main([*arguments, "--weights", teacher, "--json"]) == 0
    itself = json.loads(capsys.readouterr().out)["label_free"]
    assert "top 10 as teacher, %" in shown
    assert "says nothing of how well either tells people apart" in " ".join(shown.split())
    assert is_plain(shown)
    measured = Evaluation.from_json((tmp_path / "metrics.json").read_text()).label_free
    assert measured is not None
    assert measured.mean_cosine is None
    assert measured.images == 48
    assert 0 < measured.nearest_overlap < 1
    assert measured.tracks is not None
    assert itself["nearest_overlap"] == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--teacher FILE measures how like that model the other one is"),
        (["--teacher", "none.pt"], "none.pt"),
        (["--teacher", "none.pt", "--re-rank"], "--re-rank needs identities"),
        (
            ["--teacher", "none.pt", "--store-threshold", "eer"],
            "--store-threshold needs identities",
        ),
    ],
)
def test_what_needs_more(
    more: list[str], message: str, models: tuple[Path, Path], crops: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = ["evaluate", "--data", str(crops), "--as", "unlabelled"]
    with small_networks():
        assert main([*arguments, "--weights", str(models[0]), *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_too_few_images_to_compare_the_nearest_ones(
    models: tuple[Path, Path], crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for image in sorted(crops.rglob("*.jpg"))[:15]:
        shutil.copy(image, tmp_path)
    arguments = ["evaluate", "--data", str(tmp_path), "--as", "unlabelled"]
    with small_networks():
        weights = ["--weights", str(models[0]), "--teacher", str(models[1])]
        assert main([*arguments, *weights]) == 2
    words = " ".join(capsys.readouterr().err.split())
    assert "has 15 images, too few to compare the ten nearest ones; take 16" in words


def test_a_teacher_is_for_images_without_identities(
    models: tuple[Path, Path], tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--data", str(tiny_market), "--weights", str(models[0])]
    with small_networks():
        assert main([*arguments, "--teacher", str(models[0])]) == 2
    assert "--teacher is for images without identities" in capsys.readouterr().err

"""The stage adapt in a run: its model, its decision, and that it teaches."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.adapt_results import AdaptResult
from pipeline.config import config_class
from pipeline.dependencies import teacher_stage
from pipeline.report.contents import Report
from reid_edge.core.errors import PipelineError
from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501
from reid_edge.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

SETTINGS = {
    "data.height": 32, "data.width": 16, "data.workers": 0, "threads": 1,
    "model.architecture": "small_net", "train.epochs": 0, "latency.rounds": 2,
    "adapt.epochs": 1, "adapt.steps": 2, "adapt.clusters_per_batch": 2,
    "adapt.images_per_cluster": 4, "adapt.min_samples": 2, "adapt.k1": 6, "adapt.k2": 2,
    "adapt.apart_share": 0.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve training identities with 72 images."""
    folder = tmp_path_factory.mktemp("site") / "images"
    settings = SyntheticSettings(
        train_identities=12, test_identities=3, cameras=2, images_per_camera=3,
        distractors=0, junk=0, height=32, width=16,
    )  # fmt: skip
    write_synthetic_market1501(folder, settings)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four more identities, in another folder."""
    folder = tmp_path_factory.mktemp("other") / "images"
    settings = SyntheticSettings(
        seed=1, train_identities=4, test_identities=2, cameras=2, images_per_camera=2,
        distractors=0, junk=0, height=32, width=16,
    )  # fmt: skip
    write_synthetic_market1501(folder, settings)
    return folder


def run(images: Path, folder: Path, **settings: object) -> Report:
    import reid_edge

    given = {
        key.replace("__", ".") if "__" in key else f"adapt.{key}": value
        for key, value in settings.items()
    }
    return reid_edge.run_pipeline(
        "quickstart",
        stages="train,adapt",
        settings={**SETTINGS, "data.root": images, **given},
        run=folder,
    )


def weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    model, _ = load_checkpoint(folder / stage / "checkpoint.pt")
    return dict(model.state_dict())


def test_a_learning_rate_that_spoils_it_leaves_the_old_model(site: Path, tmp_path: Path) -> None:
    report = run(site, tmp_path / "run", learning_rate=30.0)
    result = report.results["adapt"]
    assert isinstance(result, AdaptResult)
    assert result.adaptation.kept == "given"
    assert result.note == f"adapt: the model from before stays: {result.adaptation.reason}"
    before, after = (weights(tmp_path / "run", stage) for stage in ("train", "adapt"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    written = json.loads((tmp_path / "run" / "adapt" / "adaptation.json").read_text())
    assert written["reason"] == result.adaptation.reason
    assert result.adaptation.reason in (tmp_path / "run" / "report.html").read_text()


def test_the_adapted_model_is_kept_without_a_judge(site: Path, other: Path, tmp_path: Path) -> None:
    report = run(site, tmp_path / "run", judge=False, data__also_train_on=[{"root": str(other)}])
    result = report.results["adapt"]
    assert isinstance(result, AdaptResult)
    assert result.adaptation.kept == "adapted"
    assert result.adaptation.images + result.adaptation.apart == 72 + 16
    assert [epoch.epoch for epoch in result.adaptation.epochs] == [1]
    before, after = (weights(tmp_path / "run", stage) for stage in ("train", "adapt"))
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])


def test_too_few_images_are_refused_before_the_run(tiny_market: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"^adapt: 48 images, and a model is adapted to 64 or"):
        run(tiny_market, tmp_path / "run")


def test_an_adapted_model_is_the_teacher_where_the_run_uses_it() -> None:
    config = config_class()(stages=("train", "adapt", "prune"))
    made = {"train": 1, "adapt": 1, "prune": 1}
    assert teacher_stage(config, made) == "adapt"
    assert teacher_stage(config, {"train": 1}) == "train"
    # The run starts again from the model that was trained, and asks for no adaptation.
    assert teacher_stage(config_class()(stages=("train", "prune")), made) == "train"
    # It asks for neither: later stages start from the latest model.
    assert teacher_stage(config_class()(stages=("prune", "finetune")), made) == "adapt"

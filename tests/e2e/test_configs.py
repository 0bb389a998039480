"""Every configuration of the product runs from end to end, on images that fit in a test."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.command import main
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.stages.train import TRAIN
from reid_edge.models import build_model
from reid_edge.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# Both tasks, every stage but transfer, which has a fast test of its own; the rest is slow together.
FAST = ("face", "resnet18_lpcv")
TRAININGS = ("train", "transfer.tuning", "prune.tuning", "finetune", "resize")
SMALL = [
    "threads=1", "data.workers=0", "data.height=64", "data.width=32",
    "resize.height=32", "resize.width=32", "prune.iterations=1", "latency.rounds=2",
    "quantize.calibration_images=8", "quantize.observer=minmax",
    *(f"{cut}.reconstruction_images=8" for cut in ("prune", "transfer")),
    *(f"{cut}.recalibration_images=8" for cut in ("prune", "transfer")),
    *(f"{training}.identities_per_batch=4" for training in TRAININGS),
    *(f"{training}.images_per_identity=2" for training in TRAININGS),
    *(f"{training}.augmentation.crop_padding=2" for training in TRAININGS),
]  # fmt: skip
HALF = [
    "model.architecture=short_osnet_x0_5", "prune.target=short_osnet_x0_25",
    "transfer.target=short_osnet_x0_25",
]  # fmt: skip


@pytest.fixture
def overrides(short_networks: None, tiny_market: Path, tmp_path: Path) -> dict[str, list[str]]:
    """What each configuration needs beyond being made small."""
    torch.save(build_model("short_osnet_x0_5").state_dict(), tmp_path / "weights.pth")
    # As torchvision's weights: a classifier of ImageNet, named "fc", behind the backbone.
    resnet = build_model("narrow_resnet18", num_classes=1000).state_dict()
    imagenet = {name.replace("classifier.", "fc."): value for name, value in resnet.items()}
    torch.save(imagenet, tmp_path / "resnet18.pth")
    shutil.copytree(tiny_market, tmp_path / "duke")
    (tmp_path / "cuhk01" / "campus").mkdir(parents=True)
    for image in sorted((tiny_market / "bounding_box_train").iterdir()):
        person, _, name = image.name.partition("_c")
        folder = tmp_path / "faces" / f"somebody {person}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / f"image{name}")
    for number, image in enumerate(sorted((tiny_market / "bounding_box_train").iterdir())[:8]):
        name = f"{1 + number // 4:04d}{1 + number % 4:03d}.png"
        Image.open(image).save(tmp_path / "cuhk01" / "campus" / name)
    synthetic = ("train_identities=4", "test_identities=2", "cameras=2", "images_per_camera=2")
    return {
        "quickstart": [f"data.synthetic.{setting}" for setting in synthetic],
        "transfer_x0_5": [
            f"data.root={tiny_market}", f"train.pretrained={tmp_path}/weights.pth",
        ],
        "without_labels": [
            f"data.root={tiny_market}", f"train.pretrained={tmp_path}/weights.pth",
        ],
        "compress": [
            f"data.root={tiny_market}", f"train.pretrained={tmp_path}/weights.pth",
            "adapt.epochs=1",
        ],
        "config_transfer_learning": [
            f"data.root={tiny_market}",
            f"transfer_learning.source_checkpoint={tmp_path}/weights.pth",
        ],
        "resnet18_lpcv": [
            f"data.root={tiny_market}", f"train.pretrained={tmp_path}/resnet18.pth",
            "model.architecture=narrow_resnet18", "prune.target=narrow_resnet18_x0_5",
            f"data.also_train_on=[{{root: {tmp_path}/duke}}, {{root: {tmp_path}/cuhk01, "
            "format: cuhk01, options: {train_all: true}}]",
        ],
        "reid": [
            f"data.root={tiny_market}", "model.architecture=osnet_x0_5_bnneck",
            "prune.target=osnet_x0_25_bnneck",
        ],
        "face": [
            f"data.root={tmp_path}/faces", "data.format=folders", "data.test_share=0.4",
            "data.height=32",
        ],
    }  # fmt: skip


def test_the_recipe_of_lpcv() -> None:
    config = load_config(CONFIGS / "resnet18_lpcv.yaml")
    sources = [(source.format, source.options) for source in config.data.also_train_on]
    assert sources == [("market1501", {}), ("cuhk01", {"train_all": True})]
    train = config.of(TRAIN)
    assert (train.optimizer, train.learning_rate, train.warmup_epochs) == ("sgd", 0.01, 5)
    assert train.identities_per_batch * train.images_per_identity == 32
    assert train.losses.circle > 0
    assert train.pretrained is not None
    assert train.pretrained.name == "resnet18-f37072fd.pth"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem in FAST else [pytest.mark.slow])
        for path in sorted(CONFIGS.glob("*.yaml"))
    ],
)
def test_a_config_runs_from_end_to_end(
    path: Path,
    overrides: dict[str, list[str]],
    tiny_market: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = load_config(path)
    # Trainings of no epoch stay so: they are part of what the configuration is.
    epochs = [f"{name}.epochs=1" for name in TRAININGS if name != "train" or given.train.epochs]
    half = HALF if given.model.architecture == "osnet_x1_0" else []
    own = overrides.get(path.stem, [f"data.root={tiny_market}"])
    run = tmp_path / "run"
    code = main(["--config", str(path), "--run", str(run), *SMALL, *epochs, *half, *own])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    config = load_config(run / "config.yaml")
    assert config.stages == given.stages
    report = json.loads((run / "report.json").read_text())
    assert list(report["results"]) == list(given.stages)
    without_model = ("export", "benchmark")
    made = [stage for stage in given.stages if stage not in without_model]
    assert [row["stage"] for row in report["rows"]] == made
    # The table of exported files has both measures, whatever the task.
    closing, _, _ = captured.out.partition("Files beside their model")
    assert ("EER" in closing) == (given.evaluation.task == "face")
    last = report["rows"][-2]
    model = last["model"]
    assert model["name"] == report["rows"][-1]["model"]["name"].removesuffix(" int8")
    assert model["parameters"] < report["rows"][0]["model"]["parameters"]
    record = RunDir(run).record(last["stage"])
    assert record is not None
    _, info = load_checkpoint(run / model["file"])
    assert info.input_size == record.input_size == tuple(last["input_size"])
    assert info.widths == {}

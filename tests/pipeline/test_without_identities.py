"""Runs on images without identities: from a trained model to files, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.command import default_config, main
from pipeline.report.contents import Report, collect
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.shipped_configs import find_config
from pipeline.stage_results import LIKE_TEACHER, BenchmarkResult
from reid_edge.data.schema import ReidData
from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.registry import build_model
from tests.networks import small_networks

pytestmark = pytest.mark.medium

CONFIG = ("--config", "without_labels")
STAGES = "train,prune,export"
ALL = "train,prune,finetune,resize,quantize,export,benchmark"
TRAININGS = ("prune.tuning", "finetune", "resize", "quantize.qat")
SMALL = [
    "threads=1", "data.workers=0", "data.height=64", "data.width=32", "latency.rounds=2",
    "model.architecture=small_net", "model.embedding_dim=32",
    "prune.target=small_net_x0_5", "prune.reconstruction_images=16",
    "prune.recalibration_images=16", "prune.criterion=l2",
    "resize.height=32", "resize.width=32", "quantize.calibration_images=8",
    "quantize.held_back_images=8",
    "quantize.observer=minmax", "benchmark.rounds=2", "benchmark.batches=[1]",
    "benchmark.threads=[1]", "export.files=[torchscript,torchscript_int8]",
    # A model of random weights that was trained for an epoch: files need not be good.
    "export.parity.int8_cosine=0", "export.parity.int8_lowest_cosine=-1", "export.parity.loss=1",
    "export.parity.spread=0",
    *(f"{training}.epochs=1" for training in TRAININGS),
    *(f"{training}.identities_per_batch=12" for training in TRAININGS),
    *(f"{training}.augmentation.crop_padding=2" for training in TRAININGS),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def networks() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory, tiny_data: ReidData) -> Path:
    """The tiny pedestrians as tracks, with the camera and a frame in their names."""
    root = tmp_path_factory.mktemp("crops")
    images = sorted({*tiny_data.train, *tiny_data.query, *tiny_data.gallery})
    for number, image in enumerate(images):
        # Two people pass at a time.
        frame = 100 * (image.person // 2) + number % 3
        track = f"c{image.camera:02d}_t{image.person:04d}"
        (root / track).mkdir(exist_ok=True)
        name = f"{track}_f{frame:06d}{image.path.suffix}"
        shutil.copy(image.path, root / track / name)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=9, embedding_dim=32)
    path = tmp_path_factory.mktemp("weights") / "x1.pt"
    save_checkpoint(path, model, describe(model, "small_net", input_size=(64, 32)))
    return path


def given(crops: Path, trained: Path, *more: str) -> list[str]:
    return [f"data.root={crops}", f"train.pretrained={trained}", *SMALL, *more]


def report_of(run: Path) -> Report:
    folder = RunDir(run)
    return collect(load_config(folder.config_path), folder)


@pytest.fixture(scope="module")
def run(crops: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on tracks."""
    folder = tmp_path_factory.mktemp("runs") / "tracks"
    arguments = [*CONFIG, "--stages", STAGES, "--run", str(folder), "data.format=tracklets"]
    assert main([*arguments, *given(crops, trained, "data.test_share=0.4")]) == 0
    return folder


def test_the_full_width_model_is_taken_as_it_is(run: Path, trained: Path) -> None:
    made = torch.load(run / "train" / "checkpoint.pt", weights_only=True)["state_dict"]
    for name, value in torch.load(trained, weights_only=True)["state_dict"].items():
        if not name.startswith("classifier."):
            assert torch.equal(made[name], value)


def test_every_stage_is_measured_beside_the_full_width_model(run: Path) -> None:
    report = report_of(run)
    assert [row.stage for row in report.rows] == STAGES.split(",")[:2]
    assert report.measure == LIKE_TEACHER
    first, *others = (row.model.metrics for row in report.rows)
    for metrics in (first, *others):
        assert metrics.ranking == {}
        assert metrics.label_free is not None
        assert metrics.label_free.tracks is not None
        assert metrics.gallery_images == 0
        assert metrics.verification is not None
        assert metrics.pairs.which.startswith("of tracks")
    assert first.label_free.nearest_overlap == 1
    assert first.label_free.mean_cosine == pytest.approx(1)
    assert all(0 < one.label_free.nearest_overlap < 1 for one in others if one.label_free)
    # Everywhere the same images.
    assert len({metrics.query_images for metrics in (first, *others)}) == 1
    assert {
        row.accuracy.keys() >= {LIKE_TEACHER, "cosine", "track mAP"} for row in report.rows
    } == {True}


def test_files_are_judged_on_the_images_set_apart(run: Path) -> None:
    report = report_of(run)
    (file,) = report.results["export"].files
    assert file.parity is not None
    assert file.parity.images == report.rows[0].model.metrics.query_images
    assert file.parity.mean_cosine == pytest.approx(1, abs=1e-4)
    assert file.metrics is not None
    assert file.metrics.label_free is not None
    assert file.loss == pytest.approx(0, abs=0.02)


def test_nothing_shows_a_map(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--report", "--run", str(run)]) == 0
    shown = capsys.readouterr().out
    assert LIKE_TEACHER in " ".join(shown.split())
    assert "no identities, so no mAP" in " ".join(shown.split())
    page = (run / "report.html").read_text()
    assert LIKE_TEACHER in page
    assert "What that is worth in accuracy, images without identities cannot say." in page
    assert "mAP" not in page.replace("track mAP", "").replace("so no mAP", "")
    metrics = json.loads((run / "prune" / "metrics.json").read_text())
    assert metrics["ranking"] == {}


def test_stages_depend_on_the_full_width_model(run: Path) -> None:
    records = RunDir(run).records()
    assert "teacher" not in records["train"].inputs
    digest = records["train"].outputs["checkpoint.pt"]
    for stage in STAGES.split(",")[1:]:
        assert records[stage].inputs["teacher"] == digest


def test_trainings_learn_from_the_teacher_alone(run: Path) -> None:
    heading, _ = (run / "prune" / "iteration_1" / "metrics.csv").read_text().splitlines()
    losses = {name for name in heading.split(",") if name.startswith("loss/")}
    assert losses == {"loss/embedding", "loss/cosine"}


def test_images_of_which_nothing_is_known(
    crops: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "without_labels"
    arguments = ["--stages", "train,finetune", "data.format=unlabelled"]
    settings = given(crops, trained, "data.test_share=0.3")
    by_neighbours = ["finetune.identities_per_batch=4", "finetune.images_per_identity=3"]
    assert main([*arguments, *settings]) == 0
    assert "batches are drawn by the neighbours of" not in capsys.readouterr().err
    assert main([*arguments, *settings, *by_neighbours]) == 0
    shown = capsys.readouterr()
    assert "no --config: taking configs/without_labels.yaml" in shown.err
    assert "batches are drawn by the neighbours of" in shown.err
    report = report_of(folder)
    for row in report.rows:
        assert row.model.metrics.label_free is not None
        assert row.model.metrics.label_free.tracks is None
        assert row.model.metrics.verification is None
    # The same command again reuses everything.
    assert main([*arguments, *settings, *by_neighbours]) == 0
    assert "finetune: reuse" in capsys.readouterr().err


@pytest.mark.slow
def test_all_stages_run(crops: Path, trained: Path, tmp_path: Path) -> None:
    arguments = [*CONFIG, "--stages", ALL, "--run", str(tmp_path / "r"), "quantize.mode=qat"]
    assert main([*arguments, *given(crops, trained)]) == 0
    report = report_of(tmp_path / "r")
    assert [row.stage for row in report.rows] == ALL.split(",")[:5]
    for row in report.rows:
        assert row.model.metrics.label_free is not None
    files = report.results["export"].files
    assert len(files) == 2
    assert all(file.metrics and file.metrics.label_free for file in files)
    benchmark = report.results["benchmark"]
    assert isinstance(benchmark, BenchmarkResult)
    assert all(row.metrics.label_free for row in benchmark.benchmark.rows)
    heading, _ = (tmp_path / "r" / "resize" / "metrics.csv").read_text().splitlines()
    losses = {name for name in heading.split(",") if name.startswith("loss/")}
    assert losses == {"loss/embedding", "loss/cosine"}
    assert LIKE_TEACHER in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.epochs=2"], "train.epochs: the images have no identities to train on"),
        (["train.pretrained=null"], "train.pretrained: without identities a run begins with a"),
        (["data.validation_share=0.1"], "data.validation_share: sets identities apart"),
        (["prune.accuracy_budget=0.02"], "prune.accuracy_budget: is a loss of mAP"),
        (["prune.criterion=taylor"], "prune.criterion: taylor needs the identities"),
        (["finetune.losses.triplet=1"], "finetune.losses: cross entropy, triplet and circle loss"),
        (["finetune.distillation.logits=1"], "finetune: distillation.logits compares"),
        (["finetune.teacher=false"], "finetune: without identities there is only the full-width"),
        (["prune.tuning.images_per_identity=30"], "prune.tuning: a batch of 12 x 30 needs 360"),
        (["data.also_train_on=[{root: {root}}]"], "data.also_train_on merges sets that have some"),
        (["data.test_share=0.99"], "each part needs 16: give data.test_share another value"),
    ],
)
def test_what_needs_identities_is_refused(
    settings: list[str],
    message: str,
    crops: Path,
    trained: Path,
    tiny_market: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [text.replace("{root}", str(tiny_market)) for text in settings]
    arguments = [*CONFIG, "--stages", "train,prune,finetune", "--run", str(tmp_path / "run")]
    code = main([*arguments, "data.format=unlabelled", *given(crops, trained, *settings)])
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_teacher_that_gives_one_embedding_is_refused(
    crops: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained, weights_only=True)
    content["state_dict"]["embedding.0.weight"].zero_()
    content["state_dict"]["embedding.0.bias"].fill_(1)
    torch.save(content, tmp_path / "collapsed.pt")
    arguments = [*CONFIG, "--stages", "train", "--run", str(tmp_path / "run")]
    assert main([*arguments, *given(crops, tmp_path / "collapsed.pt")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "the teacher gives nearly the same embedding for all" in error


def test_a_teachers_file_is_read_before_the_first_stage(
    crops: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [image.relative_to(crops).as_posix() for image in sorted(crops.rglob("*.jpg"))]
    damaged = tmp_path / "damaged.pt"
    table, whole = tmp_path / "table.npy", tmp_path / "whole.npy"
    damaged.write_bytes(trained.read_bytes()[:-100])
    for file, named in ((table, names[:-1]), (whole, names)):
        np.save(file, np.random.default_rng(0).normal(size=(len(named), 4)))
        file.with_suffix(".txt").write_text("\n".join(named))
    run = tmp_path / "run"
    arguments = [*CONFIG, "--stages", "train,prune", "--run", str(run), *given(crops, trained)]
    for file, words in ((damaged, "damaged.pt: "), (table, "table.txt: does not name")):
        for plan in ([], ["--plan"]):
            assert main([*arguments, f"teacher.file={file}", *plan]) == 2
            assert words in " ".join(capsys.readouterr().err.split())
        assert not (run / "train").exists()
    assert main([*arguments, f"teacher.file={whole}", "--plan"]) == 0


def test_copies_of_a_few_images_are_refused(
    crops: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sorted(crops.rglob("*.jpg"))[:10]
    for number in range(80):
        shutil.copy(source[number % 10], tmp_path / f"{number}.jpg")
    arguments = [*CONFIG, "--stages", "train", "--run", str(tmp_path / "run")]
    assert main([*arguments, *given(tmp_path, trained)]) == 2
    assert "80 files of 10 different images; without identities" in capsys.readouterr().err


def test_the_configuration_of_a_command_that_names_none() -> None:
    assert default_config(["data.format=unlabelled"]).name == "without_labels.yaml"
    assert default_config(["seed=1", "data.format=tracklets"]).name == "without_labels.yaml"
    assert default_config(["data.format=msmt17"]).name == "quickstart.yaml"
    assert default_config(["data.format=unlabeled"]).name == "quickstart.yaml"
    assert load_config(find_config(default_config(["data.format=tracklets"]))).train.epochs == 0

"""What ``reid-edge compress`` refuses, what it chooses, and the first lines of its report."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import compress_work
from pipeline.compress_command import main, parse_arguments
from pipeline.compress_verdict import best_file, judge_likeness
from pipeline.compress_work import Compression, Request, make_config
from pipeline.stage_results import BenchmarkRow
from pipeline.stages.adapt import ADAPT
from pipeline.stages.finetune import FINETUNE
from pipeline.stages.prune import PRUNE
from pipeline.time_budget import Passes, Speeds
from quantize.measurements import Timing
from reid_edge.adaptation.stability import Stability
from reid_edge.core.io import hash_file
from reid_edge.metrics.results import Evaluation, LabelFreeResult, PairCounts
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, save_checkpoint

pytestmark = pytest.mark.usefixtures("short_networks")

# A pass over 64 images takes 13 minutes, so that an hour has room for three.
SPEEDS = Speeds(load=0.0, embed=0.0, adapt=1.0, finetune=12.0, cluster=0.0, precision="32-true")


@pytest.fixture(scope="module")
def model(short_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small network with random weights; its embeddings are around zero."""
    path = tmp_path_factory.mktemp("model") / "mine.pt"
    torch.manual_seed(0)
    network = build_model("small_net", num_classes=1).eval()
    with torch.no_grad():
        mean = network(torch.randn(64, 3, 32, 16)).mean(0)
        network.get_submodule("embedding.0").bias.sub_(mean)  # type: ignore[operator]
    save_checkpoint(path, network, describe(network, "small_net", input_size=(32, 16)))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty images of coloured blots."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(80):
        pixels = generator.integers(0, 256, (8, 4, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((16, 32), Image.Resampling.NEAREST)
        image.save(folder / f"{number}.png")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the only line that the command prints as an error, with exit code 2."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    return error.removeprefix("error: ")


def test_bad_input_gets_one_line(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for number in range(10):
        shutil.copy(images / f"{number}.png", few)
    alike = tmp_path / "alike"
    alike.mkdir()
    for number in range(80):
        pixels = np.full((32, 16, 3), 90, dtype=np.uint8)
        pixels[0, 0, 0] = number
        Image.fromarray(pixels).save(alike / f"{number}.png")
    other = ["--target", "small_net_x0_5", "--input-size", "32x16", "--output", tmp_path / "run"]
    assert refused(capsys, tmp_path / "no.pt", "--images", images, *other).endswith(
        "no.pt: no such file; give the path of a checkpoint"
    )
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("x")
    for output, words in (("file", "is a file; choose a"), ("full", "holds files, but no run; ch")):
        assert words in refused(capsys, model, "--images", images, *other[:-1], tmp_path / output)
    assert "unknown file format 'onxx': did you mean 'onnx'?" in refused(
        capsys, model, "--images", images, *other, "--formats", "onnx,onxx"
    )
    assert "input size '10': expected rows and columns" in refused(
        capsys, model, "--images", images, "--input-size", "10"
    )
    assert "not a model file that is known" in refused(
        capsys, tmp_path / "file", "--images", images, *other
    )
    assert "no such folder" in refused(capsys, model, "--images", tmp_path / "no", *other)
    assert "10 images; without identities a model learns and is measured on 64" in refused(
        capsys, model, "--images", few, *other
    )
    assert "the images are all alike (their pixels differ by " in refused(
        capsys, model, "--images", alike, *other
    )
    assert "--target osnet_x0_5: is of the family osnet, and the model, small_net, of" in refused(
        capsys, model, "--images", images, "--target", "osnet_x0_5", *other[2:]
    )
    assert "unknown architecture 'osnet_x0'" in refused(
        capsys, model, "--images", images, "--target", "osnet_x0", *other[2:]
    )
    assert "--target small_net is the architecture of the model, so there is nothing" in refused(
        capsys, model, "--images", images, "--target", "small_net", *other[2:]
    )
    half = tmp_path / "half.pt"
    network = build_model("small_net_x0_5", num_classes=1).eval()
    save_checkpoint(half, network, describe(network, "small_net_x0_5", input_size=(32, 16)))
    assert "--target small_net is wider than the model, small_net_x0_5; choose a" in refused(
        capsys, half, "--images", images, "--target", "small_net", *other[2:]
    )
    assert not (tmp_path / "run").exists()


def test_a_target_with_other_layers_is_refused_before_a_stage_runs(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, path = build_model("resnet18", num_classes=1).eval(), tmp_path / "mine.pt"
    save_checkpoint(path, network, describe(network, "resnet18", input_size=(32, 16)))
    output = tmp_path / "run"
    words = refused(
        capsys, path, "--images", images, "--target", "resnet18_bnneck_x0_5",
        "--input-size", "32x16", "--output", output, "--hours", "5",
    )  # fmt: skip
    assert "resnet18_bnneck_x0_5 is no narrower resnet18: 'bottleneck.bias' is in one" in words
    assert not output.exists()


def test_a_teacher_whose_embeddings_collapse_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = build_model("small_net", num_classes=1)
    with torch.no_grad():
        network.get_submodule("embedding.0").weight.mul_(1e-4)  # type: ignore[operator]
    path = tmp_path / "flat.pt"
    save_checkpoint(path, network, describe(network, "small_net", input_size=(32, 16)))
    words = refused(
        capsys, path, "--images", images, "--target", "small_net_x0_5", "--input-size", "32x16",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert "the model gives nearly the same embedding for all of" in words


def test_too_short_a_time_is_refused_with_the_time_that_it_takes(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = refused(
        capsys, model, "--images", images, "--target", "small_net_x0_5", "--input-size", "32x16",
        "--output", tmp_path / "run", "--hours", "0.01",
    )  # fmt: skip
    assert words.startswith("--hours 0.01: 64 images take ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("hours", ["0", "x", "-1", "nan"])
def test_hours_are_a_number_above_zero(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["m.pt", "--images", "x", "--hours", hours])
    assert "expected hours, such as 0.5 or 8" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "1.5", "x"])
def test_a_seed_is_a_whole_number(seed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["m.pt", "--images", "x", f"--seed={seed}"])
    assert caught.value.code == 2
    assert "expected a whole number, 0 or more" in capsys.readouterr().err


def test_a_size_that_no_run_takes_is_refused_before_anything_is_measured(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = refused(
        capsys, model, "--images", images, "--target", "small_net_x0_5", "--input-size", "32x8",
        "--output", tmp_path / "run",
    )  # fmt: skip
    assert words.startswith("--input-size 32x8: width: input should be greater than or equal to 16")


def measured(overlap: float, *, spread: float = 0.5) -> LabelFreeResult:
    return LabelFreeResult(
        images=100, mean_cosine=0.95, lowest_cosine=0.8, same_nearest=0.6, nearest_overlap=overlap,
        rank_correlation=0.98, spread=spread, teacher_spread=0.5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("figures", "rejected", "problem", "word", "reason"),
    [
        (measured(0.8), 0, "", "yes", "where its teacher may: 80% of its teacher's ten nearest"),
        (measured(0.6), 0, "", "with care", "60% of its teacher's ten nearest images are among"),
        (measured(0.8), 1, "", "with care", "; 1 file(s) do not agree with the model"),
        (measured(0.4), 0, "", "no", "only 40% of its teacher's ten nearest images"),
        (measured(0.8, spread=0.1), 0, "", "no", "its embeddings have come together"),
        (measured(0.8), 0, "these images show one person", "no", "these images show one person"),
        (None, 0, "", "no", "it was not compared with its teacher"),
    ],
)
def test_the_verdict_follows_the_likeness_to_the_teacher(
    figures: LabelFreeResult | None, rejected: int, problem: str, word: str, reason: str
) -> None:
    verdict = judge_likeness(figures, None, rejected, problem)
    assert verdict.word == word
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("overlap", "teacher", "student", "word", "reason"),
    [
        # A teacher whose own nearest images change with the light: less likeness is asked for.
        (0.41, 0.16, 0.3, "yes", "among its own; of the teacher's, 16% stay when light and crop"),
        (0.37, 0.16, 0.3, "with care", "37% of its teacher's ten nearest images are among"),
        (0.17, 0.16, 0.15, "no", "only 17% of its teacher's ten nearest"),
        # The small model's nearest images change more than its teacher's.
        (0.41, 0.16, 0.13, "with care", "13% of its nearest images stay, and 16% of its teacher's"),
        (0.41, 0.16, 0.1, "no", "10% of its nearest images stay, and 16% of its teacher's"),
        # A steady teacher: nothing less is asked for.
        (0.71, 0.6, 0.6, "yes", "71% of its teacher's"),
        (0.69, 0.6, 0.6, "with care", "69% of its teacher's"),
        (0.49, 0.6, 0.6, "no", "only 49% of its teacher's"),
        # A teacher that is little better than chance: 1.6 % of 640 images.
        (0.5, 0.03, 0.03, "no", "light and crop change nearly all of the teacher's nearest images"),
        (0.5, 0.0, 0.0, "no", "it does not tell these persons apart"),
    ],
)
def test_the_verdict_knows_how_steady_the_teacher_is(
    overlap: float, teacher: float, student: float, word: str, reason: str
) -> None:
    # The likeness is that of the same images.
    verdict = judge_likeness(measured(0.9), Stability(teacher, student, overlap, 640), rejected=0)
    assert verdict.word == word
    assert reason in verdict.reason


def test_a_verdict_with_care_says_all_that_speaks_for_care() -> None:
    reason = judge_likeness(measured(0.8), Stability(0.5, 0.4, 0.6, 640), rejected=2).reason
    assert "when light and crop change, 40% of its nearest images stay, and 50%" in reason
    assert "more images or more time would help; 2 file(s) do not agree with the model" in reason


def row(name: str, milliseconds: float, overlap: float) -> BenchmarkRow:
    timing = Timing(1, 1, milliseconds, milliseconds, milliseconds, milliseconds, 1.0, 1.0)
    metrics = Evaluation(
        ranking={}, verification=None, pairs=PairCounts(which="", genuine=0, impostor=0),
        has_cameras=False, query_images=100, gallery_images=0, label_free=measured(overlap),
    )  # fmt: skip
    return BenchmarkRow(
        name=name, kind="", engine=None, meant_for="", input_size=(32, 16), bytes=1,
        metrics=metrics, peak_bytes=None, timings=(timing,),
    )  # fmt: skip


def test_the_file_that_is_named_is_the_fastest_of_those_that_are_like_the_teacher() -> None:
    rows = (
        row("train/checkpoint.pt", 20, 0.6), row("adapt/checkpoint.pt", 19, 1.0),
        row("finetune/checkpoint.pt", 10, 0.82), row("export/float.onnx", 4, 0.82),
        row("export/int8.onnx", 2, 0.8), row("quantize/int8.pt", 1, 0.5),
    )  # fmt: skip
    assert best_file(rows).name == "export/int8.onnx"


def compression(model: Path, images: Path, adapt: int) -> Compression:
    request = Request(
        model="", images=str(images), target="small_net_x0_5", hours=1, formats=("onnx",),
        layout="unlabelled", input_size=(32, 16), seed=3, adapt=True,
    )  # fmt: skip
    return Compression(
        request=request, architecture="small_net", embedding_dim=32, speeds=SPEEDS, problem="",
        chosen=Passes(adapt=adapt, tuning=2, finetune=5, seconds=60),
    )  # fmt: skip


def test_it_is_an_ordinary_run(model: Path, images: Path) -> None:
    options = parse_arguments([str(model), "--images", str(images)], "compress")
    config = make_config(compression(model, images, adapt=4), options)
    assert config.stages == (
        "train", "adapt", "prune", "finetune", "quantize", "export", "benchmark",
    )  # fmt: skip
    assert (config.seed, config.data.root, config.data.format) == (3, images, "unlabelled")
    assert (config.data.height, config.data.width) == (32, 16)
    assert config.of(ADAPT).epochs == 4
    assert config.of(PRUNE).tuning.epochs == 2
    assert config.of(FINETUNE).epochs == 5
    assert config.of(FINETUNE).losses.total_weight == 0
    without = make_config(compression(model, images, adapt=0), options)
    assert "adapt" not in without.stages


def test_another_request_for_the_same_folder_is_refused(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = compression(model, images, adapt=4)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: begun")
    (tmp_path / "run" / "compression.json").write_bytes(begun.to_json())
    words = refused(
        capsys, model, "--images", images, "--target", "small_net_x0_5", "--input-size", "32x16",
        "--output", tmp_path / "run", "--hours", "2",
    )  # fmt: skip
    assert words.endswith(
        "run: was begun with another model; give the same command again, or another --output"
    )


@pytest.mark.slow
def test_it_goes_from_a_model_to_files_and_a_verdict(
    model: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = compression(model, images, adapt=1)
    request = begun.request.model_copy(update={"model": hash_file(model), "seed": 0})
    chosen = Passes(adapt=1, tuning=1, finetune=1, seconds=60)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: begun")
    (tmp_path / "run" / "compression.json").write_bytes(
        begun.model_copy(update={"request": request, "chosen": chosen}).to_json()
    )
    arguments = [
        str(model), "--images", str(images), "--target", "small_net_x0_5", "--input-size",
        "32x16", "--formats", "onnx", "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    assert main(arguments) == 0
    lines = (tmp_path / "run" / "summary.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "how small", "how fast", "how like its teacher", "may it be used", "limits", "adapt",
        "time",
    ]  # fmt: skip
    printed, log = capsys.readouterr()
    log = " ".join(log.split())
    found = json.loads((tmp_path / "run" / "compression.json").read_text())
    stability = found["stability"]
    assert stability["images"] == 16
    assert all(0 < stability[name] <= 1 for name in ("teacher", "student", "overlap"))
    assert lines[0] in printed
    assert (tmp_path / "run" / "export" / "float.onnx").is_file()
    written = (tmp_path / "run" / "run.log").read_text()
    assert "INFO pipeline.compress: compress: goes on with what was chosen: 1 epochs" in written
    for stage in ("train", "adapt", "prune", "finetune", "export", "benchmark"):
        assert f"INFO pipeline.engine: {stage}: done" in written
    assert "chosen anew: 1 epochs of adaptation, 1 after the cut and 2 of fine-tuning" in log
    # The same command reuses everything.
    monkeypatch.setattr(compress_work, "compare_stability", None)
    assert main(arguments) == 0

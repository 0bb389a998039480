"""One tiny run from end to end, and what later commands make of it."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.command import main
from pipeline.engine import run_stages
from pipeline.found_images import read_found_images
from pipeline.report.contents import collect
from pipeline.report.live_page import live_page
from pipeline.report.page import write_page
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.stages import STAGES
from pipeline.stages.quantize import QUANTIZE
from prune.layer_widths import layer_widths
from reid_edge.core.io import hash_file
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.models import build_model
from reid_edge.models.checkpoint import load_checkpoint
from tests.pipeline.pages import parse_page
from tests.pipeline.whole_run import NAMES, make_run

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def finished(short_networks: None, whole_run: Path) -> Path:
    """The folder of a finished run, which tests leave as it is."""
    return whole_run


@pytest.fixture(scope="module")
def repeated(
    short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run of a network of few layers, whose stages are run again."""
    folder = tmp_path_factory.mktemp("repeated")
    return make_run(folder, tiny_market, "small_net", "0.5", iterations=1)


def times(run: Path) -> dict[str, int]:
    """When each stage was finished; files are not touched by what only looks."""
    return {stage: (run / stage / "stage.json").stat().st_mtime_ns for stage in NAMES}


def records(run: Path) -> dict[str, dict[str, object]]:
    return {stage: json.loads((run / stage / "stage.json").read_text()) for stage in NAMES}


def test_the_last_model_is_a_stock_one(finished: Path) -> None:
    model, info = load_checkpoint(finished / "finetune" / "checkpoint.pt")
    assert info.architecture == "short_osnet_x0_25"
    assert info.widths == {}
    assert layer_widths(model) == layer_widths(
        build_model("short_osnet_x0_25", num_classes=8, embedding_dim=32)
    )
    assert info.parent_hash == hash_file(finished / "prune" / "checkpoint.pt")


def test_a_checkpoint_between_iterations_has_widths_of_its_own(finished: Path) -> None:
    model, info = load_checkpoint(finished / "prune" / "iteration_1" / "checkpoint.pt")
    assert info.architecture == "short_osnet_x0_5"
    assert info.widths["conv1.conv"] == [3, 24]
    assert layer_widths(model)["conv5.conv"] == 192


def test_the_log_file_has_every_line(finished: Path) -> None:
    text = (finished / "run.log").read_text()
    assert "DEBUG pipeline.run_log: command: run_pipeline.py --config " in text
    for number, stage in enumerate(NAMES, start=1):
        assert f"INFO pipeline.run_clock: stage {number} of 4: {stage}, " in text
        assert f"INFO pipeline.engine: {stage}: started" in text
    assert "DEBUG reid_edge.libraries: " in text  # deprecations of PyTorch's quantizer


def test_the_int8_file_runs_and_says_what_it_is(finished: Path) -> None:
    module, metadata = load_torchscript(finished / "quantize" / "int8.pt")
    torch.backends.quantized.engine = "qnnpack"
    assert module(torch.zeros(3, 3, 64, 32)).shape == (3, 32)
    assert metadata.engine == "qnnpack"
    assert metadata.parent_hash == hash_file(finished / "finetune" / "checkpoint.pt")
    report = json.loads((finished / "quantize" / "quantization.json").read_text())
    calibration = json.loads((finished / "quantize" / "calibration.json").read_text())
    assert calibration["images"] == len(calibration["files"]) == 8
    assert metadata.calibration_digest == report["calibration_digest"] == calibration["digest"]
    report = report["report"]
    assert report["convolutions"] == 79
    assert (
        report["int8_convolutions"]
        + len([layer for layer in report["left_in_float"] if layer["kind"] == "Conv2d"])
        == 79
    )


def test_records_name_their_inputs(finished: Path) -> None:
    found = records(finished)
    outputs = {stage: found[stage]["outputs"] for stage in NAMES}
    assert found["prune"]["inputs"]["parent"] == outputs["train"]["checkpoint.pt"]  # type: ignore[index]
    assert found["finetune"]["inputs"]["teacher"] == outputs["train"]["checkpoint.pt"]  # type: ignore[index]
    assert set(found["train"]["versions"]) >= {"python", "torch", "nni"}  # type: ignore[call-overload]
    for stage in NAMES:
        metrics = json.loads((finished / stage / "metrics.json").read_text())
        assert set(metrics["ranking"]) == {"cosine", "euclidean"}
        assert {"has_cameras", "verification"} <= set(metrics)
        assert set(metrics["ranking"]["cosine"]["cumulative_matching"]) >= {"1", "5", "10"}


def test_the_report_of_an_iteration(finished: Path) -> None:
    for number in (1, 2):
        path = finished / "prune" / f"iteration_{number}" / "iteration.json"
        report = json.loads(path.read_text())
        assert list(report["accuracy"]) == [
            "before", "after_surgery", "after_reconstruction", "after_recalibration",
            "after_tuning",
        ]  # fmt: skip
        assert report["masked_compact_difference"] <= 1e-4
        assert len(report["layers"]) == 80
        for layer in report["layers"]:
            assert layer["channels_kept"] == layer["channels_planned"] <= layer["channels_before"]
    assert report["parameters_after"] == sum(
        value.numel()
        for name, value in load_checkpoint(finished / "prune" / "checkpoint.pt")[
            0
        ].named_parameters()
        if not name.startswith("classifier")
    )


def test_the_report_command(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(finished), "--report"]) == 0
    text = capsys.readouterr().out
    assert "Iteration 1 of 2" in text
    assert "Iteration 2 of 2" in text
    assert "conv4.0.conv2d.3.conv2" not in text
    assert "Run whole" in text
    assert "cosine distance" in text
    assert main(["--run", str(finished), "--report", "evaluation.distance=euclidean"]) == 0
    text = capsys.readouterr().out
    assert "euclidean distance" in text
    # Another view changes nothing in the run.
    assert "stale" not in text
    assert main(["--run", str(finished), "--report", "--layers"]) == 0
    assert capsys.readouterr().out.count("conv4.0.conv2d.3.conv2") == 2


def test_the_page_holds_every_layer_of_every_iteration(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert page.replace("<wbr>", "").count("<td>conv4.0.conv2d.3.conv2</td>") == 2
    assert not re.search(r"(src|href)=(?!\"#)", page)  # it needs nothing but itself
    assert "url(" not in page.replace("url(data:image/jpeg;base64,", "")
    assert "@import" not in page
    assert len(page.encode()) < 4e6


def test_the_page_has_every_section_and_is_well_formed(finished: Path) -> None:
    page = parse_page((finished / "report.html").read_text())
    assert page.unclosed == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= set(page.ids)
    assert {"stages", "found", "cuts", "trainings", "measurements", "files", "settings"} <= {
        *page.ids
    }
    assert not page.reloads
    assert "short_osnet_x0_5" in page.text
    assert "short_osnet_x0_25 int8" in page.text
    assert "times smaller" in page.text
    assert "reid_edge.Embedder('" in page.text
    assert "prune.reconstruction_images" in page.text
    assert page.unnamed == []


def test_the_page_shows_what_each_query_finds(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    for stage in ("train", "finetune", "quantize"):
        found = read_found_images(finished / stage)
        assert found is not None
        for query in found.queries:
            asked = found.images[query.query]
            for place in query.nearest:
                image = found.images[place]
                assert (image.person, image.camera) != (asked.person, asked.camera)
        genuine, impostor = sum(found.genuine), sum(found.impostor)
        metrics = json.loads((finished / stage / "metrics.json").read_text())
        assert (genuine, impostor) == (metrics["pairs"]["genuine"], metrics["pairs"]["impostor"])
        assert f"({stage})" in page
    assert "background-image:url(data:image/jpeg;base64," in page
    assert 'class="thumb hit p' in page
    assert 'class="thumb miss p' in page


def test_a_page_without_images_has_none(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = {stage: (folder / stage / "stage.json").read_bytes() for stage in NAMES}
    assert main(["--run", str(folder), "report.images=false"]) == 0
    assert before == {stage: (folder / stage / "stage.json").read_bytes() for stage in NAMES}
    page = (folder / "report.html").read_text()
    assert "data:image" not in page
    assert "report.images is false" in page
    assert "cosine similarity of pairs" in page  # the scores stay


def test_a_page_of_a_run_that_goes_on_reloads_itself(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run = RunDir(folder)
    config = load_config(run.config_path)

    def interrupted() -> None:
        with live_page(config, run) as progress:
            progress("prune")
            page = parse_page((folder / "report.html").read_text())
            assert page.reloads
            assert "Running: prune, stage 2 of 4" in page.text
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    page = parse_page((folder / "report.html").read_text())
    assert not page.reloads
    assert "Running" not in page.text


def test_a_page_that_cannot_be_written_does_not_stop_the_run(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("config.yaml", *NAMES):
        (folder / name).symlink_to(finished / name)
    (folder / "report.html").mkdir()
    (folder / "report.html" / "file").touch()
    run = RunDir(folder)
    with live_page(load_config(run.config_path), run) as progress:
        progress("train")
    assert "the page cannot be written" in caplog.text


def test_a_removed_folder_is_not_made_again_for_a_page(finished: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with live_page(load_config(finished / "config.yaml"), run) as progress:
        progress("train")
    assert not run.path.exists()


def test_a_page_names_a_folder_whose_name_is_no_text(finished: Path, tmp_path: Path) -> None:
    config = load_config(finished / "config.yaml")
    report = collect(config, RunDir(finished)).model_copy(update={"images": "/data/J\udcf6rg"})
    page = write_page(RunDir(tmp_path), report, {}).read_text()
    assert "/data/J\\udcf6rg" in page


def test_a_folder_with_brackets_is_named_as_it_is(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(finished, tmp_path / "x[lr=0.1]")
    assert main(["--run", str(run), "--report"]) == 0
    assert "x[lr=0.1]/report.html" in capsys.readouterr().out


def test_the_same_command_reuses_everything(finished: Path) -> None:
    before = times(finished)
    config = str(finished.parent / "c.yaml")
    assert main(["--config", config, "--run", str(finished)]) == 0
    assert times(finished) == before


def test_a_plan_says_why_and_runs_nothing(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    assert main(["--run", str(finished), "--plan", "--layers", "finetune.epochs=2"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "finetune.epochs: 1 -> 2" in text
    assert "settings and inputs are the same" in text
    assert "Channels by iteration" in text
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_changed_setting_makes_the_stage_and_what_follows_run_again(repeated: Path) -> None:
    before, made = records(repeated), times(repeated)
    assert main(["--run", str(repeated), "finetune.learning_rate=0.001"]) == 0
    after = times(repeated)
    assert [s for s in NAMES if after[s] != made[s]] == ["finetune", "quantize"]
    aside = json.loads((repeated / "superseded" / "finetune-1" / "stage.json").read_text())
    assert aside == before["finetune"]


def test_a_stale_stage_that_was_not_asked_for(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run", str(finished), "--stages", "quantize", "prune.tuning.epochs=2"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "quantize starts from finetune, which is stale" in " ".join(error.split())


def test_a_wrong_file_displaces_nothing(finished: Path, tmp_path: Path) -> None:
    before = times(finished)
    config = (finished / "config.yaml").read_text()
    torch.save(build_model("osnet_x1_0").state_dict(), tmp_path / "x1.pth")
    assert main(["--run", str(finished), f"train.pretrained={tmp_path}/x1.pth"]) == 2
    assert times(finished) == before
    assert (finished / "config.yaml").read_text() == config


@pytest.mark.parametrize(
    ("key", "file"),
    [("train.pretrained", "train/checkpoint.pt"), ("prune.target", "prune/plan.json")],
)
def test_what_a_run_made_is_no_start_of_the_stage_that_makes_it_again(
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    file: str,
) -> None:
    stage = file.partition("/")[0]
    before = times(finished)
    config = (finished / "config.yaml").read_text()
    assert main(["--run", str(finished), f"{key}={finished / file}"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{file}: {key} names a file of the stage {stage}, which is made again; copy" in error
    assert times(finished) == before
    assert (finished / "config.yaml").read_text() == config


def test_stages_that_were_not_asked_for_are_not_called_stale(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stages in ("train", "prune", "train,prune"):
        assert main(["--run", str(finished), "--plan", "--stages", stages]) == 0
        assert "stale" not in capsys.readouterr().out


def test_models_of_other_settings_are_marked_in_the_table(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (finished / "config.yaml").read_text()
    (finished / "config.yaml").write_text(config.replace("width: 32", "width: 48"))
    try:
        assert main(["--run", str(finished), "--report"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "finetune (stale)" in text
        assert "finetune is stale: data.width: 32 -> 48" in text
    finally:
        (finished / "config.yaml").write_text(config)


def test_from_runs_again_from_there_and_resumes_where_it_was_interrupted(
    repeated: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = times(repeated)
    weights = hash_file(repeated / "finetune" / "checkpoint.pt")

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    arguments = ["--run", str(repeated), "--from", "finetune"]
    with monkeypatch.context() as patch:
        patch.setitem(STAGES._entries, "quantize", dataclasses.replace(QUANTIZE, run=stop))
        assert main(arguments) == 130
    finetuned = (repeated / "finetune" / "stage.json").stat().st_mtime_ns
    # The same settings give the same bits.
    assert hash_file(repeated / "finetune" / "checkpoint.pt") == weights
    assert main(arguments) == 0
    after = times(repeated)
    assert [s for s in NAMES if after[s] != made[s]] == ["finetune", "quantize"]
    assert after["finetune"] == finetuned
    capsys.readouterr()
    # That restart is done: the same command would be another one.
    assert main([*arguments, "--plan"]) == 0
    assert capsys.readouterr().out.count("asked for with --from") == 2


def test_a_file_that_was_changed_is_made_again(repeated: Path) -> None:
    made = times(repeated)
    path = repeated / "quantize" / "int8.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert main(["--run", str(repeated)]) == 0
    assert (repeated / "quantize" / "stage.json").stat().st_mtime_ns != made["quantize"]
    assert RunDir(repeated).record("quantize") is not None


def test_stages_and_epochs_are_told_of_as_they_go_on(repeated: Path) -> None:
    run, told = RunDir(repeated), list[str]()
    with run.locked():
        run_stages(load_config(run.config_path), run, restart_from="finetune", progress=told.append)
    assert told == [
        "finetune",
        "finetune",
        "quantize",
    ]  # it begins, its epoch ends, the next begins

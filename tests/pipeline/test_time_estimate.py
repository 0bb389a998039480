"""How long stages take: as before on the same images, or measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config import config_class
from pipeline.dependencies import stage_settings
from pipeline.plan import Plan, make_plan
from pipeline.report.tables import image_counts, plan_table, time_lines
from pipeline.run_dir import RunDir
from pipeline.time_estimate import estimate_times, hardware_of, measure_speed, stage_work
from reid_edge.data.schema import ReidData
from tests.pipeline.records import make_record

Config = config_class()
MEASURED = "measured now: training and evaluation alone"
SMALL = {
    "stages": ("train", "prune", "finetune"),
    "data": {"height": 64, "width": 32},
    "model": {"architecture": "short_osnet_x0_5", "embedding_dim": 32},
    "prune": {"target": "short_osnet_x0_25", "iterations": 2},
}

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]


def planned(config: Config, run: RunDir) -> Plan:
    return make_plan(config, run, data_hash="d")


def finish(config: Config, run: RunDir, stage: str, **content: object) -> None:
    """Leave the record of a stage that took 100 seconds."""
    blank = {
        "settings": stage_settings(config, config.declared[stage]),
        "inputs": {"data": "d"},
        "seconds": 100.0,
        "hardware": hardware_of(config),
    }
    run.stage_dir(stage).mkdir(parents=True)
    run.finish(make_record(stage, **blank | content))


def test_an_earlier_run_beside_this_one_tells(tiny_data: ReidData, tmp_path: Path) -> None:
    config, run = Config.model_validate(SMALL), RunDir(tmp_path / "new")
    finish(config, RunDir(tmp_path / "old"), "train")
    longer = Config.model_validate({**SMALL, "train": {"epochs": 2 * config.train.epochs}})
    found = estimate_times(longer, run, planned(longer, run), tiny_data, "d")
    assert list(found) == ["train", "prune", "finetune"]
    images, tests = len(tiny_data.train), len(tiny_data.query) + len(tiny_data.gallery)
    once = 3 * config.train.epochs * images
    assert found["train"].seconds == pytest.approx(100 * (2 * once + tests) / (once + tests))
    assert found["train"].source == f"as {tmp_path.resolve()}/old/train"
    assert found["prune"].source == found["finetune"].source == MEASURED
    assert found["prune"].seconds > 0


@pytest.mark.parametrize(
    "content",
    [
        {"inputs": {"data": "other images"}},
        {"resumed": True},
        {"settings": {"model": {"architecture": "osnet_x1_0"}}},
        {"hardware": None},  # of an earlier version
        {"hardware": {"device": "cuda", "processor": "another", "threads": 1}},
    ],
)
def test_what_cannot_be_compared_does_not_tell(
    tiny_data: ReidData,
    tmp_path: Path,
    content: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    config, run = Config.model_validate({**SMALL, "stages": ("train",)}), RunDir(tmp_path / "new")
    finish(config, RunDir(tmp_path / "old"), "train", **content)
    (tmp_path / "broken" / "train").mkdir(parents=True)
    (tmp_path / "broken" / "train" / "stage.json").write_text(json.dumps([1]))
    found = estimate_times(config, run, planned(config, run), tiny_data, "d")
    assert found["train"].source.startswith("measured now")
    # The measurement takes seconds, or a minute on a busy machine.
    line = "measuring the time of a training step on this machine (32-true)"
    assert caplog.messages.count(line) == 1


def test_another_number_of_threads_does_not_tell(tiny_data: ReidData, tmp_path: Path) -> None:
    two, three = (
        Config.model_validate({**SMALL, "stages": ("train",), "threads": count}) for count in (2, 3)
    )
    run = RunDir(tmp_path / "new")
    finish(two, RunDir(tmp_path / "old"), "train")
    sources = [
        estimate_times(one, run, planned(one, run), tiny_data, "d")["train"].source
        for one in (two, three)
    ]
    assert sources == [f"as {tmp_path.resolve()}/old/train", MEASURED]


def test_speed_is_measured_with_the_threads_and_precision_of_the_run() -> None:
    config = Config.model_validate({**SMALL, "threads": 3})
    seen: list[tuple[int, bool]] = []

    def look(*_: object) -> None:
        seen.append((torch.get_num_threads(), torch.is_autocast_enabled("cpu")))

    before = torch.get_num_threads()
    handle = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        measure_speed(config, "bf16-mixed")
    finally:
        handle.remove()
    assert set(seen) == {(3, True), (3, False)}  # training, and embedding
    assert torch.get_num_threads() == before


def test_finished_stages_take_no_time(tiny_data: ReidData, tmp_path: Path) -> None:
    config = Config.model_validate({**SMALL, "stages": ("train",)})
    run = RunDir(tmp_path / "new")
    finish(config, run, "train")
    assert estimate_times(config, run, planned(config, run), tiny_data, "d") == {}


def test_the_work_of_a_cut_grows_with_its_iterations(tiny_data: ReidData) -> None:
    once, twice = (
        Config.model_validate({**SMALL, "prune": {**SMALL["prune"], "iterations": count}})
        for count in (1, 2)
    )
    prune = once.declared["prune"]
    works = [stage_work(c, prune, tiny_data, after_cut=True) for c in (once, twice)]
    assert works[1].trained == 2 * works[0].trained
    assert works[0].seconds(1, 0) == pytest.approx(0.35 * works[0].trained)
    assert replace(works[0], compact=False).seconds(1, 0) == works[0].trained


def test_the_work_of_an_adaptation_is_its_epochs(tiny_data: ReidData) -> None:
    small = {**SMALL, "adapt": {"epochs": 3, "apart_share": 0.25, "precision": "bf16-mixed"}}
    config = Config.model_validate(small)
    work = stage_work(config, config.declared["adapt"], tiny_data, after_cut=False)
    learned = len(tiny_data.train) - round(0.25 * len(tiny_data.train))
    judged = len(tiny_data.query) + len(tiny_data.gallery)
    assert work.trained == 3 * learned
    assert work.evaluated == 3 * learned + judged
    assert work.precision == "bf16-mixed"
    stepped = Config.model_validate({**small, "adapt": {"epochs": 3, "steps": 5}})
    work = stage_work(stepped, config.declared["adapt"], tiny_data, after_cut=False)
    assert work.trained == 3 * 5 * 64


def test_every_file_of_an_export_is_compared_on_all_images(tiny_data: ReidData) -> None:
    config = Config.model_validate({**SMALL, "export": {"files": ["onnx", "torchscript"]}})
    work = stage_work(config, config.declared["export"], tiny_data, after_cut=True)
    assert work.trained == 0
    assert work.evaluated == 3 * (len(tiny_data.query) + len(tiny_data.gallery))


def test_measuring_leaves_random_numbers_alone() -> None:
    config = Config.model_validate(SMALL)
    state = torch.get_rng_state()
    speed = measure_speed(config, "32-true")
    assert speed.training > 0
    assert speed.evaluating > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_what_a_plan_says(tiny_data: ReidData, tmp_path: Path) -> None:
    config, run = Config.model_validate(SMALL), RunDir(tmp_path / "new")
    for stage in config.stages:
        finish(config, RunDir(tmp_path / "old"), stage)
    plan = planned(config, run)
    found = estimate_times(config, run, plan, tiny_data, "d")
    table = plan_table(plan, found)
    assert [row[-1] for row in table.rows] == ["2 min"] * 3
    (line,) = time_lines(found)
    assert line.startswith("all of it takes about 5 min (train: as ")
    assert time_lines({}) == []
    assert image_counts(tiny_data).startswith(f"{len(tiny_data.train)} training images of 8 ident")

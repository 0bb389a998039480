"""What is said before a run that can do what it is asked to, but better otherwise."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.config import config_class
from pipeline.preflight import check_batches, check_choices, check_settings
from reid_edge.core.errors import PipelineError, TrainingError
from reid_edge.data.readers.market1501 import read_market1501

pytestmark = pytest.mark.medium

Config = config_class()


@pytest.mark.parametrize(
    ("processor", "precision", "warned"),
    [
        ({"architecture": "x86_64", "avx512_f": True}, "bf16-mixed", True),
        ({"architecture": "x86_64", "avx512_f": True}, "32-true", False),
        ({"architecture": "x86_64", "avx512_bf16": True}, "bf16-mixed", False),
        ({"architecture": "x86_64", "amx_bf16": True}, "bf16-mixed", False),
        ({"architecture": "aarch64"}, "bf16-mixed", False),
    ],
)
def test_bfloat16_where_it_is_slow(
    processor: dict[str, object],
    precision: str,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    config = Config.model_validate(
        {"device": "cpu", "stages": ["train"], "train": {"precision": precision}}
    )
    with caplog.at_level(logging.WARNING, "pipeline.preflight"):
        check_settings(config)
    assert ("train.precision: bf16-mixed takes longer" in caplog.text) == warned


def test_an_adaptation_in_half_precision_needs_a_gpu() -> None:
    settings = {"device": "cpu", "stages": ["train", "adapt"], "adapt": {"precision": "16-mixed"}}
    with pytest.raises(PipelineError, match=r"^adapt\.precision: 16-mixed needs a GPU; on"):
        check_settings(Config.model_validate(settings))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"train": {"milestones": [3]}},
            "train.milestones: not used, train.schedule is cosine",
        ),
        (
            {"finetune": {"frozen_layers": ["conv1"]}},
            "finetune.frozen_layers: not used, finetune.frozen_epochs is 0",
        ),
        (
            {"prune": {"teacher": False, "distillation": {"cosine": 7}}},
            "prune.distillation: not used, prune.teacher is false",
        ),
        (
            {"prune": {"extra_tuning": 5}},
            "prune.extra_tuning: not used, prune.accuracy_budget is not given",
        ),
        ({"prune": {"extra_tuning": 5, "accuracy_budget": 0.02}}, None),
        ({"transfer": {"distillation": {"cosine": 7}}}, None),  # of a stage that does not run
        ({"train": {"milestones": [3], "schedule": "step"}}, None),
        (
            {"train": {"milestones": [3, 9], "schedule": "step", "epochs": 9}},
            "train.milestones: some are never reached, train.epochs is 9",
        ),
        (
            {"train": {"frozen_layers": ["conv1"], "frozen_epochs": 4, "epochs": 4}},
            "train.frozen_epochs: the layers never learn, train.epochs is 4",
        ),
    ],
)
def test_settings_that_have_no_effect(
    settings: dict[str, object], line: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    stages = ["train", "prune", "finetune"]
    with caplog.at_level(logging.WARNING, "pipeline.preflight"):
        check_settings(Config.model_validate({"stages": stages, **settings}))
    assert [record.message for record in caplog.records] == ([] if line is None else [line])


def test_what_pytorch_says_of_this_processor_is_understood() -> None:
    assert "architecture" in torch.cpu.get_capabilities()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"prune": {"target": 0.5}},
            "export.files: boxmot carries published widths only, and prune.target gives others",
        ),
        (
            {"model": {"architecture": "resnet18_bnneck"}, "stages": ["quantize", "export"]},
            "export.files: torchreid and BoxMOT do not build resnet18_bnneck",
        ),
        (
            {"model": {"embedding_dim": 64}},
            "export.files: torchreid and BoxMOT do not build osnet_x0_5 with 64 dimensions",
        ),
    ],
)
def test_files_that_cannot_carry_the_model(settings: dict[str, object], words: str) -> None:
    wanted = {"stages": ["train", "prune", "export"], "export": {"files": ["boxmot"]}}
    with pytest.raises(PipelineError) as caught:
        check_settings(Config.model_validate(wanted | settings))
    assert str(caught.value).startswith(words)


def test_an_onnx_file_for_boxmot_carries_any_widths() -> None:
    wanted = {"stages": ["train", "prune", "export"], "export": {"files": ["boxmot_onnx"]}}
    check_settings(Config.model_validate({**wanted, "prune": {"target": 0.5}}))


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"mode": "qat", "held_back_images": 0}, "quantize.mode qat"),
        ({"scan": True, "calibration_images": 4000}, "quantize.scan"),
        ({"accuracy_budget": 0.01, "held_back_images": 0}, "quantize.accuracy_budget"),
        ({"scan": True, "calibration_images": 8}, None),
        ({"held_back_images": 0}, None),
    ],
)
def test_int8_that_nothing_could_judge(
    settings: dict[str, object], refused: str | None, tiny_market: Path
) -> None:
    config = Config.model_validate(
        {
            "stages": ["quantize"],
            "quantize": {"qat": {"identities_per_batch": 4, "images_per_identity": 3}} | settings,
        }
    )
    data = read_market1501(tiny_market)
    if refused is None:
        check_batches(config, data)
        return
    with pytest.raises(PipelineError, match=f"{refused}: no images are left to judge by"):
        check_batches(config, data)


def test_an_architecture_of_no_teacher() -> None:
    wanted = {"stages": ["finetune"], "teacher": {"architecture": "resnet50"}}
    with pytest.raises(PipelineError, match=r"^teacher.architecture: is that of teacher.file, and"):
        check_choices(Config.model_validate(wanted))


def test_a_loss_of_pairs_needs_them() -> None:
    wanted = {"stages": ["finetune"], "finetune": {"images_per_identity": 1}}
    with pytest.raises(TrainingError, match=r"^finetune.images_per_identity: 1 leaves no two"):
        check_choices(Config.model_validate(wanted))


def test_a_layout_needs_a_folder() -> None:
    config = Config.model_validate({"stages": ["train"], "data": {"format": "csv"}})
    with pytest.raises(
        PipelineError, match=r"^data.format: csv is the layout .*; give data.root=FOLDER"
    ):
        check_settings(config)


def test_training_int8_gets_what_is_not_held_back(tiny_market: Path) -> None:
    data = read_market1501(tiny_market)
    images = len(data.train)
    batch = {"identities_per_batch": 4, "images_per_identity": 3}
    for held_back, fits in ((images - 12, True), (images - 11, False)):
        settings = {
            "mode": "qat", "calibration_images": 8, "held_back_images": held_back, "qat": batch,
        }  # fmt: skip
        config = Config.model_validate({"stages": ["quantize"], "quantize": settings})
        if fits:
            check_batches(config, data)
            continue
        with pytest.raises(PipelineError, match=r"^quantize.qat: .*lower quantize.held_back_imag"):
            check_batches(config, data)


def test_processes_are_not_started_in_a_task_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("SLURM_JOB_NAME", raising=False)
    check_choices(Config(stages=("train",)))
    together = Config(stages=("train",), devices=2)
    with pytest.raises(TrainingError, match=r"devices: 2 processes cannot be started in a task"):
        check_choices(together)
    check_choices(Config.model_validate({**together.model_dump(), "train": {"epochs": 0}}))

"""Bad input: one line that says what, where and what to do; exit code 2; nothing is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.command import main
from pipeline.config import config_class
from pipeline.preflight import check_settings
from pipeline.run_dir import RunDir
from prune.criteria import CRITERIA
from reid_edge.core.errors import PipelineError
from reid_edge.models import build_model

pytestmark = pytest.mark.medium

Config = config_class()

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def refused(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Run a command that has to be refused; return its one line."""

    def run(*arguments: str) -> str:
        code, _, error = command("--run", str(tmp_path / "run"), *arguments)
        lines = [line for line in error.splitlines() if "error:" in line]
        assert code == 2
        assert len(lines) == 1
        assert "Traceback" not in error
        return lines[0]

    return run


def test_unknown_stage(refused: Callable[..., str]) -> None:
    assert "unknown stage 'qantize': did you mean 'quantize'?" in refused("--stages", "qantize")


def test_stages_out_of_order(refused: Callable[..., str]) -> None:
    assert "stages out of order" in refused("--stages", "quantize,train")


def test_unknown_setting(refused: Callable[..., str]) -> None:
    assert "did you mean 'prune.iterations'?" in refused("prune.iteration=3")


def test_ill_typed_setting(refused: Callable[..., str]) -> None:
    assert "prune.iterations: input should be a valid integer" in refused("prune.iterations=x")


def test_missing_data(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "nowhere: no such folder" in refused(f"data.root={tmp_path}/nowhere")
    assert "no folder 'bounding_box_train'" in refused(f"data.root={tmp_path}")


def test_no_match(refused: Callable[..., str], tiny_market: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_market, tmp_path / "one_camera"))
    for image in [*copy.rglob("*_c2s*.jpg")]:
        image.rename(image.with_name(image.name.replace("_c2s", "_c1s9")))
    assert "no query has a match on another camera: all images have camera 1" in refused(
        f"data.root={copy}"
    )


def test_truncated_image(refused: Callable[..., str], tiny_market: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_market, tmp_path / "damaged"))
    image = sorted((copy / "query").iterdir())[0]
    image.write_bytes(image.read_bytes()[:500])
    line = refused(f"data.root={copy}")
    assert str(image) in line
    assert "cannot be decoded" in line


def test_checkpoint_of_another_architecture(refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save(build_model("osnet_x1_0").state_dict(), tmp_path / "x1.pth")
    line = refused(f"train.pretrained={tmp_path}/x1.pth")
    assert "x1.pth: does not fit the model" in line


def test_checkpoint_without_the_embedding_layer(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    torch.save(build_model("resnet18_last_stride_2").state_dict(), tmp_path / "resnet18.pth")
    line = refused(
        "model.architecture=resnet18_last_stride_2", f"train.pretrained={tmp_path}/resnet18.pth",
        "train.epochs=0", "prune.target=0.5",
    )  # fmt: skip
    assert "resnet18.pth: train.epochs=0 takes it as it is, but 'embedding.0.weight'" in line
    assert not (tmp_path / "run" / "train").exists()


def test_checkpoint_with_a_pickle(refused: Callable[..., str], tmp_path: Path) -> None:
    torch.save(build_model("osnet_x0_25"), tmp_path / "module.pth")
    assert "module.pth: holds pickled Python objects" in refused(
        f"train.pretrained={tmp_path}/module.pth"
    )


def test_missing_checkpoint(refused: Callable[..., str]) -> None:
    assert "/no/file.pth: no such file" in refused("train.pretrained=/no/file.pth")


def test_folder_in_use(refused: Callable[..., str], tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create()
    with run.locked():
        assert "in use by process" in refused("--stages", "train")


def test_wider_target(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "target is wider than the source at 'conv1.conv': 64 > 32" in refused(
        "model.architecture=osnet_x0_5", "prune.target=osnet_x1_0"
    )
    assert not (tmp_path / "run" / "train").exists()


def test_a_target_of_another_family(refused: Callable[..., str]) -> None:
    line = refused("model.architecture=osnet_ibn_x1_0", "prune.target=osnet_x0_5")
    assert "prune.target: osnet_x0_5 is no narrower osnet_ibn_x1_0: 'conv1.bn." in line


def test_a_target_with_another_stem_or_stride(refused: Callable[..., str]) -> None:
    for source, target, layer in (
        ("resnet18_fastreid", "resnet18_bnneck_x0_5", "maxpool"),
        ("resnet18_last_stride_2", "resnet18_x0_5", "layer4.0.conv1"),
    ):
        line = refused(f"model.architecture={source}", f"prune.target={target}")
        assert f"prune.target: {target} is no narrower {source}: '{layer}' has another" in line


def test_a_stage_without_a_model(refused: Callable[..., str]) -> None:
    assert "prune needs a model" in refused("--stages", "prune")


@pytest.mark.parametrize(
    "wrong", ["finetune.identities_per_batch=64", "train.pretrained=/no/file.pth"]
)
def test_a_plan_refuses_what_the_run_would(refused: Callable[..., str], wrong: str) -> None:
    assert refused("--plan", wrong) == refused(wrong)


def test_batches_that_cannot_be_filled(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("finetune.identities_per_batch=64")
    assert "finetune: identities_per_batch is 64, but the training set has only 8" in line
    assert not (tmp_path / "run" / "train").exists()


def test_nothing_to_learn_from(refused: Callable[..., str]) -> None:
    line = refused("prune.teacher=false", "prune.tuning.losses.cross_entropy=0",
                   "prune.tuning.losses.triplet=0")  # fmt: skip
    assert "prune.tuning: nothing to learn from, every loss has weight 0" in line


def test_hints_alone_where_nothing_is_cut(refused: Callable[..., str], tmp_path: Path) -> None:
    losses = [f"finetune.losses.{name}=0" for name in ("cross_entropy", "triplet")]
    others = [f"finetune.distillation.{name}=0" for name in ("embedding", "cosine", "similarity")]
    line = refused("--stages", "train,finetune", *losses, *others)
    assert "finetune: nothing to learn from, every loss has weight 0" in line
    assert not (tmp_path / "run" / "train").exists()


@pytest.mark.parametrize("epochs", [0, 1])
def test_layers_to_freeze_that_are_not_there(
    refused: Callable[..., str], tmp_path: Path, epochs: int
) -> None:
    line = refused(f"finetune.frozen_epochs={epochs}", "finetune.frozen_layers=[cnov1]")
    assert "finetune.frozen_layers: the model has no layer 'cnov1'; the nearest are " in line
    assert "conv1" in line
    assert not (tmp_path / "run" / "train").exists()


def test_layers_that_come_with_the_size_of_the_embedding() -> None:
    model = {"architecture": "resnet18", "embedding_dim": 64}  # 512 would need no layer
    frozen = {"frozen_epochs": 1, "frozen_layers": ["embedding"]}
    stages = ["train", "quantize"]
    settings = {"model": model, "stages": stages, "train": frozen}
    check_settings(
        Config.model_validate({**settings, "quantize": {"float_layers": ["embedding.0"]}})
    )
    with pytest.raises(PipelineError, match=r"train\.frozen_layers: the model has no layer 'emb"):
        check_settings(Config.model_validate({**settings, "model": {"architecture": "resnet18"}}))


def test_more_devices_than_there_are(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "train: 5 devices take 5 batches of 12 images at once" in refused(
        "devices=5", "device=cpu"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "devices: 2 were asked for, but torch finds 1 GPU(s)" in refused("devices=2")


def test_half_precision_on_the_cpu(refused: Callable[..., str]) -> None:
    line = refused("finetune.precision=16-mixed", "device=cpu")
    assert "finetune.precision: 16-mixed needs a GPU; on the CPU use bf16-mixed or 32-t" in line


def test_a_log_of_another_kind(refused: Callable[..., str]) -> None:
    line = refused("log=csv,tsv")
    assert "log.1: input should be 'csv', 'tensorboard', 'mlflow' or 'wandb', found 'tsv'" in line


def test_patience_without_validation(refused: Callable[..., str]) -> None:
    line = refused("train.patience=3")
    assert "train.patience: there is no validation to lose patience with; give data.vali" in line


def test_settings_that_do_not_go_together(refused: Callable[..., str]) -> None:
    line = refused("train.schedule=step")
    assert "error: train: schedule step needs milestones, such as [40, 60]; correct it in" in line
    assert "{" not in line


def test_a_float_layer_that_is_not_there(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "conv5.con" in refused("quantize.float_layers=[conv5.con]")
    assert not (tmp_path / "run" / "train").exists()


def test_a_folder_with_other_things(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "run" / "prune").mkdir(parents=True)
    (tmp_path / "run" / "prune" / "mine.py").touch()
    for arguments in ([], ["--plan"]):
        assert "holds files, but no run" in refused(*arguments)
    assert (tmp_path / "run" / "prune" / "mine.py").exists()


def test_a_run_that_is_not_there(command: Command, tmp_path: Path) -> None:
    code, _, error = command("--run", str(tmp_path / "rnu"), "--from", "finetune", config=False)
    assert code == 2
    assert "no run there; give --config FILE to begin one" in error


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--stage", "train", "--nowhere"])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_settings_may_stand_between_options(command: Command, tmp_path: Path) -> None:
    code, out, _ = command(
        "seed=1", "--run", str(tmp_path / "run"), "train.epochs=3", "--plan", "--stages", "train"
    )
    assert code == 0
    assert "not made yet" in out


def test_a_folder_without_rights(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/run/lock")

    monkeypatch.setattr("reid_edge.core.lock.FileLock.acquire", refuse)
    assert "lock: cannot be locked (Permission denied); make the folder writable" in refused()


def test_restart_from_elsewhere(refused: Callable[..., str]) -> None:
    assert "--from fly: unknown stage" in refused("--from", "fly")
    assert "--from prune: not among the stages to run (train)" in refused(
        "--stages", "train", "--from", "prune"
    )


def test_gpu_that_is_not_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch finds no GPU" in refused("device=cuda")


def test_report_of_nothing(command: Command, tmp_path: Path) -> None:
    code, _, error = command("--report", "--run", str(tmp_path / "none"), config=False)
    assert code == 2
    assert "no run there" in error
    code, _, error = command("--report", config=False)
    assert code == 2
    assert "--report needs --run FOLDER" in error


@pytest.mark.parametrize("flag", [["--stages", "train"], ["--from", "train"]])
def test_a_report_takes_no_other_stages(command: Command, tmp_path: Path, flag: list[str]) -> None:
    run = RunDir(tmp_path / "run")
    run.create()
    run.write_config("name: run\n")
    code, _, error = command("--report", "--run", str(run.path), *flag, config=False)
    assert code == 2
    assert f"error: {flag[0]}: --report shows what the run has" in error
    code, out, error = command("--report", "--run", str(run.path), "no.such=1", config=False)
    assert code == 2
    assert "unknown setting 'no.such'" in error
    code, out, error = command("--report", "--run", str(run.path), config=False)
    assert code == 0
    assert "page:" not in out
    # No table without a row.
    assert "no stage of the run has made a model yet" in "".join(out.split("\n"))
    assert "parameters" not in out


def test_a_name_that_is_not_utf_8(refused: Callable[..., str], tmp_path: Path) -> None:
    missing = str(tmp_path / "J\udcf6rg.yaml")
    assert "J\\udcf6rg.yaml: cannot read" in refused("--config", missing)


def test_a_home_in_an_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--report", "--run=~/x"]) == 2
    assert f"{tmp_path}/x: no run there" in "".join(capsys.readouterr().err.splitlines())
    with pytest.raises(SystemExit):
        main(["--report", "--run=~nobody-here/x"])
    assert "argument --run: ~nobody-here/x: '~nobody-here' is the home of nobody" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_criterion_that_cannot_be_imported_is_refused_before_training(
    refused: Callable[..., str],
) -> None:
    CRITERIA.register("broken", "prune.criteria:NOT_THERE")
    try:
        line = refused("--stages", "train,prune", "prune.criterion=broken")
    finally:
        CRITERIA.unregister("broken")
    assert "error: criterion 'broken': cannot import prune.criteria:NOT_THERE" in line


def test_a_rate_that_is_far_too_high(
    refused: Callable[..., str], command: Command, tmp_path: Path
) -> None:
    line = refused("--stages", "train", "train.learning_rate=1e12", "train.optimizer=sgd")
    assert "train: epoch 1, step " in line
    assert "is not finite" in line
    code, output, _ = command(
        "--run", str(tmp_path / "run"), "--stages", "train", "train.optimizer=sgd", "--plan"
    )
    assert code == 0
    assert "resume" in output
    assert "diverged" in output

"""A run through transfer and resize: one cut, then another input size for all that follows."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.closing_latency import read_latency
from pipeline.command import main
from pipeline.run_dir import RunDir
from prune.layer_widths import layer_widths
from reid_edge.core.io import hash_file
from reid_edge.inference.backends.torchscript_runtime import load_torchscript
from reid_edge.models import build_model
from reid_edge.models.checkpoint import load_checkpoint

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

STAGES = ("train", "transfer", "resize", "quantize")
CONFIG = """
name: transferred
threads: 1
stages: [train, transfer, resize, quantize]
data: {{root: {root}, height: 32, width: 32, workers: 0}}
model: {{architecture: small_net, embedding_dim: 32}}
train: {{epochs: 0}}
transfer:
  target: small_net_x0_5
  reconstruction_images: 16
  recalibration_images: 16
  tuning:
    epochs: 1
    identities_per_batch: 4
    images_per_identity: 3
    frozen_layers: [conv1, conv2]
    frozen_epochs: 1
resize:
  height: 64
  width: 32
  epochs: 1
  identities_per_batch: 4
  images_per_identity: 3
quantize: {{calibration_images: 8, observer: minmax}}
latency: {{rounds: 2}}
"""


@pytest.fixture(scope="module")
def finished(
    short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("transferred")
    (folder / "c.yaml").write_text(CONFIG.format(root=tiny_market))
    assert main(["--config", str(folder / "c.yaml"), "--run", str(folder / "run")]) == 0
    return folder / "run"


def test_transfer_lands_at_the_target_in_one_cut(finished: Path) -> None:
    model, info = load_checkpoint(finished / "transfer" / "checkpoint.pt")
    assert info.architecture == "small_net_x0_5"
    assert layer_widths(model) == layer_widths(
        build_model("small_net_x0_5", num_classes=8, embedding_dim=32)
    )
    assert info.parent_hash == hash_file(finished / "train" / "checkpoint.pt")
    report = json.loads((finished / "transfer" / "iteration_1" / "iteration.json").read_text())
    assert (report["iteration"], report["iterations"]) == (1, 1)
    assert not (finished / "transfer" / "iteration_2").exists()


def test_what_is_kept_is_what_is_most_important(finished: Path) -> None:
    full, _ = load_checkpoint(finished / "train" / "checkpoint.pt")
    kept = json.loads((finished / "transfer" / "kept.json").read_text())["conv4"]
    # The layer is in no group: its own L2 norms decide.
    norms = full.get_submodule("conv4").weight.flatten(1).norm(dim=1)  # type: ignore[union-attr, operator]
    assert sorted(kept) == sorted(norms.topk(16).indices.tolist())


def test_frozen_layers_are_as_the_cut_left_them(finished: Path) -> None:
    cut, _ = load_checkpoint(finished / "transfer" / "iteration_1" / "compact.pt")
    trained, _ = load_checkpoint(finished / "transfer" / "checkpoint.pt")
    same = {
        name for name, value in trained.state_dict().items()
        if torch.equal(value, cut.state_dict()[name])
    }  # fmt: skip
    frozen = {name for name in trained.state_dict() if name.startswith(("conv1.", "conv2."))}
    assert frozen <= same
    assert not any(
        name.startswith(("conv3.", "embedding.")) and name.endswith("weight") for name in same
    )


def test_everything_after_resize_has_the_new_size(finished: Path) -> None:
    sizes = [load_checkpoint(finished / stage / "checkpoint.pt")[1].input_size
             for stage in ("train", "transfer", "resize")]  # fmt: skip
    assert sizes == [(32, 32), (32, 32), (64, 32)]
    module, metadata = load_torchscript(finished / "quantize" / "int8.pt")
    assert metadata.input_size == (64, 32)
    torch.backends.quantized.engine = "qnnpack"
    assert module(torch.zeros(2, 3, 64, 32)).shape == (2, 32)
    records = RunDir(finished).records().values()
    macs = {record.stage: record.result.model.macs for record in records if record.result.model}
    assert macs["resize"] == pytest.approx(2 * macs["transfer"], rel=0.05)
    assert macs["quantize"] == macs["resize"]
    latency = read_latency(RunDir(finished))
    assert latency is not None
    assert set(STAGES) <= {model.stage for model in latency.models}


def test_every_row_shows_its_input_size(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(finished), "--report"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for stage, size in (("transfer", "32 x 32"), ("resize", "64 x 32"), ("quantize", "64 x 32")):
        assert f"{stage} {size} " in text
    page = (finished / "report.html").read_text()
    assert page.count("<td>64 x 32</td>") == 2
    assert "Iteration 1 of 1" in text


def test_another_size_makes_resize_and_what_follows_run_again(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(finished), "--plan", "resize.height=48"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "resize run resize.height: 64 -> 48 transfer" in text
    assert "transfer reuse" in text
    assert "its input changed: parent" in text


def test_a_plan_of_transfer_shows_its_widths_whatever_prune_would_end_at(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--run", str(finished), "--plan", "--layers", "prune.target={macs: 0.5}"]) == 0
    text = capsys.readouterr().out
    assert "Channels by iteration" in text
    assert "depend on the trained weights" not in text


def test_prune_instead_of_transfer(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--run", str(finished), "--plan", "--stages", "train,prune"]
    changed = ["prune.target=small_net_x0_5", "prune.tuning.identities_per_batch=4"]
    assert main([*arguments, *changed]) == 0
    assert "prune run not made yet train" in " ".join(capsys.readouterr().out.split())

"""The examples that extend the program work as the documentation says."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

import reid_edge
from examples.at_names_reader import AT_NAMES
from examples.fixed_batch_exporter import FIXED_BATCH
from examples.plain_net_architecture import PLAIN_NET
from examples.small_weights_stage import SMALL_WEIGHTS, SmallWeightsResult
from examples.spread_criterion import SPREAD
from pipeline.command import main as run_command
from pipeline.settings_io import load_config
from pipeline.stages import STAGES
from prune.criteria import CRITERIA
from prune.layer_widths import layer_widths
from prune.surgery import cut
from quantize.exporters import EXPORTERS
from reid_edge.cli.main import main as reid_edge_command
from reid_edge.core.errors import DataError, QuantizeError
from reid_edge.data.readers import READERS
from reid_edge.data.schema import ReidData
from reid_edge.models import ARCHITECTURES
from reid_edge.models.checkpoint import load_checkpoint

pytestmark = pytest.mark.medium


@pytest.fixture
def registered() -> Iterator[None]:
    """Register the examples as an installed package would."""
    added = (
        (CRITERIA, "spread", "examples.spread_criterion:SPREAD"),
        (EXPORTERS, "onnx_fixed_batch", "examples.fixed_batch_exporter:FIXED_BATCH"),
        (READERS, "at-names", "examples.at_names_reader:AT_NAMES"),
        (ARCHITECTURES, "plain_net", "examples.plain_net_architecture:PLAIN_NET"),
    )
    for registry, name, entry in added:
        registry.register(name, entry)
    yield
    for registry, name, _ in added:
        registry.unregister(name)


@pytest.fixture
def at_names(tiny_data: ReidData, tmp_path: Path) -> Path:
    """The tiny data set under the names of the example."""
    root = tmp_path / "mine"
    splits = {"train": tiny_data.train, "query": tiny_data.query, "gallery": tiny_data.gallery}
    for split, samples in splits.items():
        (root / split).mkdir(parents=True)
        for number, sample in enumerate(samples):
            name = f"{sample.person}@{sample.camera}_{number:04}.jpg"
            shutil.copy(sample.path, root / split / name)
    return root


def test_a_criterion_as_an_object() -> None:
    torch.manual_seed(0)
    model = PLAIN_NET.build().eval()
    example = torch.randn(2, 3, 32, 16)
    widths = layer_widths(model) | {"conv1": 8}
    result = cut(model, widths, example=example, check_input=example, criterion=SPREAD)
    spread = model.get_submodule("conv1").weight.flatten(1).std(dim=1, correction=0)
    assert result.kept["conv1"].tolist() == sorted(spread.argsort()[8:].tolist())


def test_a_reader_as_an_object(at_names: Path, tiny_data: ReidData) -> None:
    data = reid_edge.read_source(AT_NAMES, at_names)
    assert [(s.person, s.camera) for s in sorted(data.query)] == sorted(
        (s.person, s.camera) for s in tiny_data.query
    )
    (at_names / "query" / "someone.jpg").touch()
    with pytest.raises(DataError, match=r"someone\.jpg: no person and camera in the name; expec"):
        reid_edge.read_source(AT_NAMES, at_names)


def test_an_architecture_as_an_object() -> None:
    model = reid_edge.build_model(PLAIN_NET, num_classes=5)
    logits, embeddings = model(torch.randn(2, 3, 32, 16))
    assert (logits.shape, embeddings.shape) == ((2, 5), (2, 64))


def test_an_exporter_as_an_object(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PLAIN_NET.build().eval()
    result = reid_edge.export(model, torch.randn(8, 3, 32, 16), tmp_path, ["onnx", FIXED_BATCH])
    assert not result.problems
    path = tmp_path / "float_batch1.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 32, 16]
    with pytest.raises(QuantizeError, match="made of onnx: put onnx in files as well"):
        reid_edge.export(model, torch.randn(8, 3, 32, 16), tmp_path, [FIXED_BATCH])


@pytest.mark.usefixtures("registered")
def test_a_reader_is_recognized(at_names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reid_edge_command(["check", str(at_names)]) == 0
    assert "read as at-names" in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_all_of_them_in_one_run(at_names: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "stages: [train, prune, export]\n"
        "threads: 1\n"
        f"data: {{root: {at_names}, format: at-names, height: 32, width: 16, workers: 0}}\n"
        "model: {architecture: plain_net, embedding_dim: 64}\n"
        "train: {epochs: 0}\n"
        "prune: {criterion: spread, target: 0.5, iterations: 1, tuning: {epochs: 0}}\n"
        "export: {files: [onnx, onnx_fixed_batch]}\n"
    )
    assert load_config(config).prune.criterion == "spread"
    assert run_command(["--config", str(config), "--run", str(tmp_path / "run")]) == 0
    model, info = load_checkpoint(tmp_path / "run" / "prune" / "checkpoint.pt")
    assert info.architecture == "plain_net"
    assert (tmp_path / "run" / "export" / "float_batch1.onnx").is_file()
    conv1 = model.get_submodule("conv1")
    assert isinstance(conv1, nn.Conv2d)
    assert conv1.out_channels == 8


@pytest.fixture
def stage_config(short_networks: None, tiny_market: Path, tmp_path: Path) -> Path:
    """A configuration of a run with the stage of the example."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "stages: [train, small_weights]\n"
        "threads: 1\n"
        f"data: {{root: {tiny_market}, height: 32, width: 16, workers: 0}}\n"
        "model: {architecture: small_net, embedding_dim: 16}\n"
        "train: {epochs: 0}\n"
        "small_weights: {below: 0.01}\n"
    )
    return path


def test_a_stage_in_a_run(
    stage_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    STAGES.register("small_weights", SMALL_WEIGHTS)
    try:
        command = ["--config", str(stage_config), "--run", str(tmp_path / "run")]
        assert run_command(command) == 0
        assert "Small weights by layer" in capsys.readouterr().out
        found = tmp_path / "run" / "small_weights" / "small_weights.json"
        written = found.stat().st_mtime_ns
        assert min(json.loads(found.read_text()).values()) >= 0
        assert run_command(command) == 0  # reused
        assert found.stat().st_mtime_ns == written
    finally:
        STAGES.unregister("small_weights")


def test_a_stage_as_an_object(stage_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = reid_edge.run_pipeline(stage_config, run=run, extra_stages=[SMALL_WEIGHTS])
    result = report.results["small_weights"]
    assert isinstance(result, SmallWeightsResult)
    written = json.loads((run / "small_weights" / "small_weights.json").read_text())
    assert result.shares == written
    assert reid_edge.read_run(run, extra_stages=[SMALL_WEIGHTS]) == report

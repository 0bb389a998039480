"""A file format from outside: its exporter and its backend are in ``toy_format.py``."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pipeline.stages.export  # noqa: F401  (its texts name the registered formats: load it first)
from pipeline.command import main
from quantize.deployment import export
from quantize.exporters import EXPORTERS
from reid_edge.core.backends import BACKENDS, load_model_file, recognise
from reid_edge.core.errors import CheckpointError, QuantizeError
from reid_edge.inference.embedder import load_embedder
from tests.quantize import toy_format

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

CONFIG = """
name: toy
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: small_net, embedding_dim: 32}}
train: {{epochs: 0}}
export: {{files: [toy], options: {{toy: {{factor: 2}}}}}}
benchmark: {{rounds: 2, batches: [1], threads: [1]}}
latency: {{rounds: 2}}
"""


class ColourMeans(nn.Module):
    """The smallest model there is."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


@pytest.fixture
def registered() -> Iterator[None]:
    EXPORTERS.register("toy", toy_format.EXPORTER)
    BACKENDS.register("toy", toy_format.BACKEND)
    yield
    EXPORTERS.unregister("toy")
    BACKENDS.unregister("toy")


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, 8, 4, generator=torch.Generator().manual_seed(0))


def test_objects_are_passed_without_registration(images: Tensor, tmp_path: Path) -> None:
    result = export(ColourMeans().eval(), images, tmp_path, [toy_format.EXPORTER])
    assert result.problems == []
    (file,) = result.files
    assert (file.path.name, file.bytes) == ("model.toy", (tmp_path / "model.toy").stat().st_size)
    embedder = load_embedder(file.path, backend=toy_format.BACKEND)
    assert embedder.space.input_size == (8, 4)
    assert "toy" not in EXPORTERS
    with pytest.raises(CheckpointError, match="not a model file that is known"):
        recognise(file.path)


@pytest.mark.usefixtures("registered")
def test_a_registered_format_is_known_by_its_name_and_content(
    images: Tensor, tmp_path: Path
) -> None:
    assert export(ColourMeans().eval(), images, tmp_path, ["toy"]).problems == []
    path = tmp_path / "model.toy"
    assert recognise(path) is toy_format.BACKEND
    found = load_model_file(path).embed(images.numpy())
    torch.testing.assert_close(torch.from_numpy(found), images.mean((2, 3)))
    with pytest.raises(QuantizeError, match="unknown file format 'tooy': did you mean 'toy'"):
        export(ColourMeans(), images, tmp_path, ["tooy"])
    (tmp_path / "other").write_text("no model")
    with pytest.raises(CheckpointError, match=r"expected .*OpenVINO file,.* or a toy file"):
        recognise(tmp_path / "other")


@pytest.mark.usefixtures("registered")
def test_a_run_exports_and_times_it(
    tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG.format(root=tiny_market))
    command = ["--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]
    assert main([*command, "--stages", "train,export,benchmark"]) == 0
    (row,) = json.loads((tmp_path / "run" / "export" / "parity.json").read_text())["files"]
    assert (row["name"], row["exporter"], row["problems"]) == ("model.toy", "toy", [])
    assert row["parity"]["lowest_cosine"] > 0.9999
    metadata = load_model_file(tmp_path / "run" / "export" / "model.toy").metadata
    assert (metadata.architecture, metadata.notes) == ("small_net", {"factor": "2.0"})
    rows = json.loads((tmp_path / "run" / "benchmark" / "benchmark.json").read_text())["rows"]
    assert (rows[1]["name"], rows[1]["meant_for"]) == ("export/model.toy", "toys")
    capsys.readouterr()
    wrong = "export.options={toy: {factor: large}}"
    assert main([*command, "--stages", "train,export", wrong]) == 2
    assert "export.options.toy: " in capsys.readouterr().err
    assert main([*command, "export.options={tooy: {}}"]) == 2
    assert "unknown file format 'tooy': did you mean 'toy'?" in capsys.readouterr().err

"""``import reid_edge`` is all that a program needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import reid_edge
from reid_edge.data.schema import ReidData
from reid_edge.models.checkpoint import describe, save_checkpoint

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("short_networks")]

SIZE = (64, 32)


def test_names_are_documented_and_found_by_completion() -> None:
    assert set(reid_edge.__all__) <= set(dir(reid_edge))
    for name in reid_edge.__all__:
        assert getattr(reid_edge, name).__doc__, name
    page = (Path(__file__).parents[2] / "docs" / "reference" / "api.md").read_text()
    for name in set(reid_edge.__all__) - {"__version__"}:
        assert f"reid_edge.{name}`" in page, name
    with pytest.raises(AttributeError, match="module 'reid_edge' has no attribute 'prun'"):
        _ = reid_edge.prun


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, reid_edge; assert reid_edge.ReidError; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'onnxruntime') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_model_is_pruned_quantized_exported_loaded_and_evaluated(
    tiny_market: Path, tiny_data: ReidData, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = reid_edge.build_model("small_net", num_classes=8, embedding_dim=32).eval()
    images = torch.randn(8, 3, *SIZE)
    pruned = reid_edge.prune(model, images[:1], channels=0.5)
    assert pruned.report.macs_after < 0.5 * pruned.report.macs_before
    quantized = reid_edge.quantize(pruned.model, images)
    assert quantized.agreement.images == 8
    exported = reid_edge.export(pruned.model, images, tmp_path, ["onnx"])
    assert exported.problems == []
    embedder = reid_edge.load_embedder(exported.files[0].path, input_size=SIZE)
    data = reid_edge.read_source("market1501", tiny_market)
    assert len(data.query) == len(tiny_data.query)
    measured = reid_edge.evaluate(embedder, data).result
    assert 0 < measured.ranking["cosine"].mean_average_precision <= 1
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, model, describe(model, "small_net", input_size=SIZE))
    loaded, info = reid_edge.load_checkpoint(path)
    assert info.architecture == "small_net"
    assert torch.equal(loaded(images), model(images))


def test_paths_may_be_text(tiny_market: Path, tiny_data: ReidData, tmp_path: Path) -> None:
    model = reid_edge.build_model("small_net", num_classes=8, embedding_dim=32)
    save_checkpoint(tmp_path / "a.pt", model, describe(model, "small_net", input_size=SIZE))
    _, info = reid_edge.load_checkpoint(str(tmp_path / "a.pt"))
    assert info.input_size == SIZE
    embedder = reid_edge.load_embedder(str(tmp_path / "a.pt"))
    data = reid_edge.read_source("market1501", str(tiny_market))
    assert data == tiny_data
    paths = [image.path for image in data.query]
    embeddings = reid_edge.embed_files(embedder, [str(path) for path in paths])
    assert (embeddings == reid_edge.embed_files(embedder, paths)).all()
    assert type(embeddings).__module__ == "numpy"  # no tensor with gradients


def test_errors_are_of_one_kind_and_one_line(tmp_path: Path) -> None:
    for call in (
        lambda: reid_edge.load_embedder(tmp_path / "none.onnx"),
        lambda: reid_edge.read_source("market1501", tmp_path / "none"),
        lambda: reid_edge.build_model("osnet_x1"),
        lambda: reid_edge.run_pipeline("no_such_configuration"),
        lambda: reid_edge.run_pipeline(settings={"train.epocs": 1}, run=tmp_path / "r"),
        lambda: reid_edge.run_pipeline(stages=["fly"], run=tmp_path / "r"),
        lambda: reid_edge.read_run(tmp_path),
        lambda: reid_edge.prune(torch.nn.Linear(2, 2), torch.zeros(1, 2)),
        lambda: reid_edge.quantize(torch.nn.Linear(2, 2), []),
    ):
        with pytest.raises(reid_edge.ReidError) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "r").exists()

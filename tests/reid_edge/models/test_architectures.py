"""Architectures are declarations; one from outside is a file and a line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.settings_io import load_config
from reid_edge.core.errors import ModelError, PipelineError
from reid_edge.models import ARCHITECTURES, build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint
from reid_edge.models.complexity import measure_complexity
from reid_edge.models.shapes import build_shapes
from tests.reid_edge.models.toy_architecture import TOY

pytestmark = pytest.mark.medium


@pytest.fixture
def registered_toy() -> Iterator[None]:
    ARCHITECTURES.register("toy", "tests.reid_edge.models.toy_architecture:TOY")
    yield
    ARCHITECTURES.unregister("toy")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_declaration_agrees_with_the_model(name: str) -> None:
    declared = ARCHITECTURES.load(name)
    assert declared.name == name
    assert build_shapes(name).embedding_dim == declared.embedding_dim
    for other in (declared.bnneck, declared.stride_2, declared.fastreid):
        assert other is None or ARCHITECTURES.load(other).family == declared.family


def test_one_of_another_package_is_built_saved_and_loaded(
    registered_toy: None, tmp_path: Path
) -> None:
    assert "toy" in ARCHITECTURES
    assert measure_complexity("toy", 9, 9).macs == 6 * 4 * 4 * 27 + 6 * 8
    model = build_model("toy", num_classes=4).eval()
    model.get_submodule("fc").weight.data.mul_(2)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, "toy", input_size=(16, 8)))
    loaded, info = load_checkpoint(tmp_path / "m.pt")
    assert (info.architecture, info.num_classes, info.embedding_dim) == ("toy", 4, 8)
    images = torch.randn(2, 3, 16, 8)
    assert torch.equal(loaded(images), model(images))
    (tmp_path / "c.yaml").write_text("model: {architecture: toy}")
    assert load_config(tmp_path / "c.yaml").model.architecture == "toy"


def test_one_that_is_not_registered_is_passed_as_an_object(tmp_path: Path) -> None:
    model = build_model(TOY, num_classes=4).eval()
    save_checkpoint(tmp_path / "m.pt", model, describe(model, TOY, input_size=(16, 8)))
    loaded, _ = load_checkpoint(tmp_path / "m.pt", TOY)
    images = torch.randn(2, 3, 16, 8)
    assert torch.equal(loaded(images), model(images))
    with pytest.raises(ModelError, match="unknown architecture 'toy'"):
        load_checkpoint(tmp_path / "m.pt")


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    message = "unknown architecture 'osnet_x05': did you mean 'osnet_x0_5'. known are osnet_x1_0, "
    with pytest.raises(ModelError, match=message):
        build_model("osnet_x05")
    (tmp_path / "c.yaml").write_text("model: {architecture: osnet_x05}")
    with pytest.raises(PipelineError, match=f"model.architecture: {message}"):
        load_config(tmp_path / "c.yaml")


def test_names_are_known_without_pytorch() -> None:
    program = (
        "import sys; from reid_edge.models import ARCHITECTURES\n"
        "ARCHITECTURES.check('osnet_x0_5')\n"
        "print(sorted({'torch', 'torchvision', 'lightning'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_measuring_and_grouping_import_neither_torchvision_nor_the_compiler() -> None:
    program = (
        "import sys, reid_edge.models.pretrained, reid_edge.training.fit_config\n"
        "from reid_edge.models import ARCHITECTURES\n"
        "from reid_edge.models.complexity import measure_complexity\n"
        "for name in ARCHITECTURES: measure_complexity(name, 64, 32)\n"
        "import torch; from prune.nni_backend import find_groups\n"
        "assert find_groups(torch.nn.Conv2d(3, 4, 3), torch.zeros(2, 3, 8, 8)) == []\n"
        "heavy = {'torchvision', 'lightning', 'torchmetrics', 'torch._dynamo', 'sympy'}\n"
        "print(sorted((heavy | {'pytorch_lightning'}) & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"

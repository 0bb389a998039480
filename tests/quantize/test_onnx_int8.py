import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.onnx_float import onnx_session, read_onnx, read_onnx_metadata, save_onnx
from quantize.exporters.onnx_int8 import Calibration, int8_convolutions, quantize_onnx
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import ONNX_INPUT
from reid_edge.models.resnet import ResNet

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def float_file(osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "float.onnx"
    save_onnx(osnet, images[:1], path, {"architecture": "Ö"})
    return path


@pytest.fixture(scope="module")
def int8_file(float_file: Path, images: Tensor) -> Path:
    path = float_file.with_name("int8.onnx")
    # Batches of two sizes: ONNX Runtime would stack them.
    quantize_onnx(float_file, images.split(5), path)
    return path


def embed(path: Path, images: Tensor) -> Tensor:
    return torch.from_numpy(onnx_session(path).run(None, {ONNX_INPUT: images.numpy()})[0])


def test_every_convolution_is_int8_per_channel(int8_file: Path) -> None:
    # 79 layers in 97 calls, and the average pooling of two stages.
    assert int8_convolutions(int8_file) == (99, 99)
    model = read_onnx(int8_file)
    sizes = {each.name: len(each.dims) for each in model.graph.initializer}
    scales = [
        node.input[1]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0].endswith("weight_quantized")
    ]
    assert scales
    assert all(sizes[name] == 1 for name in scales)


def test_it_imitates_the_float_file_and_is_smaller(
    float_file: Path, int8_file: Path, images: Tensor
) -> None:
    exact, rounded = embed(float_file, images), embed(int8_file, images)
    assert not torch.equal(exact, rounded)
    assert (exact * rounded).sum(1).min() > 0.98
    assert int8_file.stat().st_size < 0.8 * float_file.stat().st_size
    assert read_onnx_metadata(int8_file) == {"architecture": "Ö"}


def test_other_batches(int8_file: Path, images: Tensor) -> None:
    session = onnx_session(int8_file)
    whole, *parts = (
        session.run(None, {ONNX_INPUT: some.numpy()})[0]
        for some in (images[:7], images[:1], images[1:3])
    )
    assert np.array_equal(np.concatenate(parts), whole[:3])


def test_a_first_pooling_without_padding(images: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # FastReID's; at an odd size its last window reaches over the edge.
    odd = torch.nn.functional.pad(images, (0, 2, 0, 2))
    model = ResNet(18, embedding_dim=64, width=0.25, bnneck=True, padded_stem=False).train()
    with torch.no_grad():
        for _ in range(3):
            model(odd)
    paths = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    save_onnx(model.eval(), odd[:1], paths[0], {})
    quantize_onnx(paths[0], [odd], paths[1])
    exact, rounded = (embed(path, odd) for path in paths)
    with torch.inference_mode():
        assert torch.allclose(nn.functional.normalize(model(odd)), exact, atol=1e-5)
    assert (exact * rounded).sum(1).min() > 0.95
    assert int8_convolutions(paths[1]) == (20, 20)


def test_only_operator_sets_that_are_used_are_named(small_file: Path, tmp_path: Path) -> None:
    """ONNX Runtime 1.15 to 1.17 refuses a file that names those of a later version."""
    quantize_onnx(small_file, [torch.rand(4, 3, 16, 8)], tmp_path / "int8.onnx")
    model = read_onnx(tmp_path / "int8.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]
    assert model.ir_version == 7


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    path = tmp_path / "small.onnx"
    save_onnx(model.eval(), torch.zeros(1, 3, 16, 8), path, {"architecture": "small"})
    return path


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_it_says_nothing_and_gives_the_same_bytes(
    small_file: Path,
    method: Calibration,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING", logger="quantize")  # of our own lines, a command shows those
    handlers = list(logging.root.handlers)
    seen: list[int] = []
    batches = torch.rand(4, 3, 16, 8).split(2)
    files = [small_file.with_name(name) for name in ("a.onnx", "b.onnx")]
    for path in files:
        quantize_onnx(small_file, batches, path, method=method, progress=seen.append)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert seen == [0, 1, 0, 1]
    assert capsys.readouterr() == ("", "")
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == 0


def test_bad_calibration_is_refused(small_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    with pytest.raises(QuantizeError, match="no calibration images"):
        quantize_onnx(small_file, [], path)
    with pytest.raises(QuantizeError, match=r"batch 0 holds images of size \(3, 16, 16\), .* 8\)"):
        quantize_onnx(small_file, [torch.zeros(2, 3, 16, 16)], path)
    assert not path.exists()


def test_an_activation_that_hardly_varies(tmp_path: Path) -> None:
    layer = nn.Conv2d(3, 8, 3)
    nn.init.constant_(layer.weight, 1e-7)
    nn.init.constant_(layer.bias, 1.0)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    path, images = tmp_path / "flat.onnx", torch.rand(4, 3, 16, 8)
    save_onnx(model.eval(), images[:1], path, {})
    with pytest.raises(QuantizeError, match=r"flat\.onnx: .* hardly varies .*=minmax"):
        quantize_onnx(path, [images], tmp_path / "int8.onnx")
    quantize_onnx(path, [images], tmp_path / "int8.onnx", method="minmax")

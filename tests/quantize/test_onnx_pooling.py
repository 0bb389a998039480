from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from quantize.exporters.onnx_float import onnx_session, read_onnx, save_onnx
from quantize.exporters.onnx_int8 import pooling_as_convolution, quantize_onnx
from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import ONNX_INPUT


class Pools(nn.Module):
    """Pooling of two kinds between convolutions, the second at the border."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d((2, 3), stride=(2, 1)),
            nn.Conv2d(5, 4, 1),
            nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.layers(images)
        return embeddings


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "pools.onnx"
    save_onnx(Pools().eval(), torch.rand(1, 3, 16, 12), path, {})
    return path


def test_the_result_is_the_same_and_padded_pooling_stays(pools: Path) -> None:
    images = torch.rand(2, 3, 16, 12).numpy()
    before = onnx_session(pools).run(None, {ONNX_INPUT: images})[0]
    model = onnx.shape_inference.infer_shapes(read_onnx(pools))
    assert pooling_as_convolution(model) == 1
    onnx.checker.check_model(model)
    after = onnx_session(model.SerializeToString()).run(None, {ONNX_INPUT: images})[0]
    torch.testing.assert_close(torch.from_numpy(after), torch.from_numpy(before))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert (kinds["Conv"], kinds["AveragePool"]) == (3, 1)


def test_int8_files_have_it(pools: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    quantize_onnx(pools, [torch.rand(4, 3, 16, 12)], path)
    kinds = Counter(node.op_type for node in read_onnx(path).graph.node)
    assert (kinds["Conv"], kinds["AveragePool"]) == (3, 1)


def test_a_shape_that_is_not_known_is_refused(pools: Path) -> None:
    model = read_onnx(pools)
    del model.graph.value_info[:]
    with pytest.raises(QuantizeError, match="number of its channels is not known"):
        pooling_as_convolution(model)

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from torch import Tensor

from quantize.exporters.onnx_float import read_onnx
from quantize.exporters.onnx_int8 import int8_convolutions, quantize_onnx
from reid_edge.inference.embedder import load_embedder

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def symmetric_file(osnet_onnx: Path, images: Tensor) -> Path:
    path = osnet_onnx.with_name("tensorrt_int8.onnx")
    quantize_onnx(osnet_onnx, images.split(6), path, symmetric=True)
    return path


def test_all_is_signed_with_zero_points_of_zero(symmetric_file: Path) -> None:
    model = read_onnx(symmetric_file)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 300
    for node in pairs:
        zero = weights[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    # TensorRT reads no int32 biases.
    assert TensorProto.INT32 not in {tensor.data_type for tensor in weights.values()}
    assert int8_convolutions(symmetric_file) == (97, 97)
    kinds = {node.op_type for node in model.graph.node}
    assert {"AveragePool", "GlobalAveragePool", "Relu"} <= kinds


def test_the_length_is_computed_in_float(symmetric_file: Path) -> None:
    model = read_onnx(symmetric_file)
    users = {name: node for node in model.graph.node for name in node.input}
    for kind in ("ReduceL2", "Clip", "Div"):
        (node,) = [each for each in model.graph.node if each.op_type == kind]
        following = users.get(node.output[0])
        assert following is None or following.op_type != "QuantizeLinear"


def test_embeddings_are_nearly_those_of_the_float_file(
    osnet_onnx: Path, symmetric_file: Path, images: Tensor
) -> None:
    exact, rounded = (
        load_embedder(path).embed(images.numpy()) for path in (osnet_onnx, symmetric_file)
    )
    assert not np.allclose(exact, rounded, atol=1e-5)
    assert (exact * rounded).sum(1).min() > 0.97

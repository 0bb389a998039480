from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from torch import Tensor

from quantize.exporters.onnx_float import onnx_session, read_onnx, read_onnx_metadata
from quantize.exporters.onnx_float16 import save_float16
from reid_edge.core.errors import QuantizeError
from reid_edge.inference.embedder import load_embedder


@pytest.fixture(scope="module")
def half_file(osnet_onnx: Path) -> Path:
    path = osnet_onnx.with_name("float16.onnx")
    save_float16(osnet_onnx, path)
    return path


def test_embeddings_are_nearly_those_of_the_float_file(
    osnet_onnx: Path, half_file: Path, images: Tensor
) -> None:
    for size in (1, 5):
        exact, half = (
            load_embedder(path).embed(images[:size].numpy()) for path in (osnet_onnx, half_file)
        )
        assert half.dtype == np.float32
        assert not np.array_equal(exact, half)
        assert (exact * half).sum(1).min() > 0.9995
        assert np.allclose(np.linalg.norm(half, axis=1), 1, atol=1e-5)


def test_weights_are_in_half_precision_and_the_length_is_not(
    osnet_onnx: Path, half_file: Path
) -> None:
    model = read_onnx(half_file)
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    assert kinds == {TensorProto.FLOAT16}
    types = [each.type for each in (*onnx_session(half_file).get_inputs(),
                                    *onnx_session(half_file).get_outputs())]  # fmt: skip
    assert types == ["tensor(float)", "tensor(float)"]
    makers = {name: node for node in model.graph.node for name in node.output}
    (division,) = [node for node in model.graph.node if node.op_type == "Div"]
    assert makers[division.input[0]].op_type == "Cast"
    assert half_file.stat().st_size < 0.6 * osnet_onnx.stat().st_size
    assert read_onnx_metadata(half_file) == read_onnx_metadata(osnet_onnx)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "float.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(QuantizeError, match=r"float\.onnx: not an ONNX file"):
        save_float16(tmp_path / "float.onnx", tmp_path / "float16.onnx")
    assert not (tmp_path / "float16.onnx").exists()

"""LiteRT files; skipped without the packages of the extra ``litert``."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantize.call_sites import split_call_sites
from quantize.exporters.litert import _make_room_for_biases, save_litert, save_litert_int8
from quantize.exporters.rounded_layers import round_layers
from quantize.fold import fold_batchnorm
from reid_edge.core.backends import recognise
from reid_edge.core.errors import CheckpointError, ModelError, QuantizeError
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.embedder import load_embedder

pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_torch")
pytestmark = pytest.mark.slow

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

METADATA = ModelMetadata("Ö", (32, 16), mean=(0.5, 0.4, 0.3)).to_strings()


class Gated(nn.Module):
    """One gate on two streams of different range, as OSNet's on four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.head = nn.Linear(8, 16)

    def forward(self, images: Tensor) -> Tensor:
        first = self.stem(images)
        second = 9 * first
        mixed = first * self.gate(first) + second * self.gate(second)
        return self.head(mixed.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Gated().eval()


@pytest.fixture(scope="module")
def batch() -> Tensor:
    # Later images have wider ranges: a moving average of the ranges would cut them off.
    images = torch.randn(6, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    return images * torch.arange(1, 7).reshape(6, 1, 1, 1)


@pytest.fixture(scope="module")
def files(
    model: nn.Module, batch: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("litert")
    made = {"float": folder / "float.tflite", "int8": folder / "int8.tflite"}
    save_litert(model, batch[:2], made["float"], METADATA)
    save_litert_int8(model, batch[:1], batch.split(4), made["int8"], METADATA)
    return made


@torch.inference_mode()
def test_embeddings_and_metadata(files: dict[str, Path], model: nn.Module, batch: Tensor) -> None:
    expected = nn.functional.normalize(model(batch)).numpy()
    for name, path in files.items():
        assert recognise(path).name == "litert"
        embedder = load_embedder(path)
        assert embedder.description == "Ö, LiteRT"
        assert (embedder.space.input_size, embedder.space.mean) == ((32, 16), (0.5, 0.4, 0.3))
        # The float file takes two images in a call, the other one.
        for size in (1, 5, 6):
            found = embedder.embed(batch[:size].numpy())
            found = found / np.linalg.norm(found, axis=1, keepdims=True)
            if name == "float":
                assert np.allclose(found, expected[:size], atol=1e-5)
            else:
                assert not np.allclose(found, expected[:size], atol=1e-5)
                assert (found * expected[:size]).sum(1).min() > 0.995


def test_int8_images_and_embeddings_and_no_float_layers(files: dict[str, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(files["int8"]))
    interpreter.allocate_tensors()
    for details in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert details["dtype"] == np.int8
    kinds = {details["dtype"] for details in interpreter.get_tensor_details()}
    assert np.float32 not in kinds
    weights = [each for each in interpreter.get_tensor_details() if len(each["shape"]) == 4]
    assert any(len(each["quantization_parameters"]["scales"]) == 8 for each in weights)


@torch.inference_mode()
def test_int8_weights_of_more_than_256_kib_are_read_again(
    model: nn.Module, batch: Tensor, tmp_path: Path
) -> None:
    """The quantizer puts them behind the model, and the metadata move them."""
    large = copy.deepcopy(model)
    large.head = nn.Linear(8, 40_000)
    path = tmp_path / "large.tflite"
    save_litert_int8(large, batch[:1], batch.split(4), path, METADATA)
    assert path.stat().st_size > 8 * 40_000
    embedder = load_embedder(path)
    assert embedder.description == "Ö, LiteRT"
    found = torch.from_numpy(embedder.embed(batch.numpy()))
    assert torch.cosine_similarity(found, large(batch)).min() > 0.99


@torch.inference_mode()
def test_int8_keeps_the_biases_of_channels_without_weights(
    model: nn.Module, batch: Tensor, tmp_path: Path
) -> None:
    """As behind a BatchNorm whose gains have decayed; they were cut off at 2**31 tiny steps."""
    decayed = copy.deepcopy(model)
    norm, gate = decayed.stem[1], decayed.gate[1]
    norm.weight[:3] = torch.tensor([0.0, 1e-9, -1e-7])
    norm.bias[:3] = torch.tensor([0.5, 1.0, 1.5])
    gate.weight.zero_()  # a whole layer
    path = tmp_path / "decayed.tflite"
    save_litert_int8(decayed, batch[:1], batch.split(4), path, METADATA)
    found = torch.from_numpy(load_embedder(path).embed(batch.numpy()))
    assert torch.cosine_similarity(found, decayed(batch)).min() > 0.995


def test_int8_weights_are_rounded_by_their_inputs(
    files: dict[str, Path], model: nn.Module, batch: Tensor
) -> None:
    graph = split_call_sites(copy.deepcopy(model))
    fold_batchnorm(graph)
    given = graph.get_submodule("stem.0").weight.detach().clone()  # type: ignore[operator]
    assert round_layers(graph.eval(), batch.split(4), "int8.tflite") >= 2
    rounded = graph.get_submodule("stem.0").weight.detach()  # type: ignore[operator]
    step = given.flatten(1).abs().amax(1).reshape(-1, 1, 1, 1) / 127

    interpreter = Interpreter(model_path=str(files["int8"]))
    interpreter.allocate_tensors()
    (stored,) = (
        torch.from_numpy(interpreter.get_tensor(tensor["index"]))
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8 and tuple(tensor["shape"]) == (8, 3, 3, 3)
    )
    assert torch.equal(stored.permute(0, 3, 1, 2).float(), (rounded / step).round())
    assert not torch.equal((rounded / step).round(), (given / step).round())


def test_room_for_biases_in_any_memory_format() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)]
    for layer in layers:
        layer.weight.data[0] = 0
        expected = layer.weight.detach().clone()
        _make_room_for_biases(layer)
        assert layer.weight[0].count_nonzero() == 1
        assert layer.weight[0].max() == expected.abs().max() / 2**12
        assert torch.equal(layer.weight[1:], expected[1:])


def test_a_file_that_a_kernel_refuses_is_not_called_damaged(
    files: dict[str, Path], tmp_path: Path
) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromPackedBuf(files["int8"].read_bytes(), 0)
    graph = model.subgraphs[0]
    codes = [code.builtinCode for code in model.operatorCodes]
    convolution = next(
        operator for operator in graph.operators
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.CONV_2D
    )  # fmt: skip
    # XNNPACK takes no output whose steps are so much smaller than those of the sums.
    graph.tensors[convolution.outputs[0]].quantization.scale = [1e-12]
    builder = Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "steep.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(ModelError, match=r"steep\.tflite: LiteRT cannot run it: .*XNNPACK"):
        load_embedder(path)


def test_bad_input_is_refused(
    files: dict[str, Path], model: nn.Module, batch: Tensor, tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match="no calibration images"):
        save_litert_int8(model, batch[:1], [], tmp_path / "int8.tflite", {})
    content = files["float"].read_bytes()
    (tmp_path / "short.tflite").write_bytes(content[:500])
    with pytest.raises(CheckpointError, match=r"short\.tflite: not a readable LiteRT file"):
        load_embedder(tmp_path / "short.tflite")
    with pytest.raises(ModelError, match=r"float\.tflite: the model fails on images of 8x8; it"):
        load_embedder(files["float"]).embed(np.zeros((1, 3, 8, 8), np.float32))

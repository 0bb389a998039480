"""``reid-edge doctor``: what it finds in files that are wrong in the usual ways."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn

from quantize.exporters.onnx_float import save_onnx, with_metadata
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.layer_walk import walk
from reid_edge.cli.main import main


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 16, 5, 4, 2), nn.Conv2d(16, 24, 3, 2, 1)
        self.fc = nn.Linear(24 * 8, 20)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        x = nn.functional.adaptive_avg_pool2d(x, (4, 2))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


class Spoiled(nn.Module):
    """A network whose images are changed on their way in."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.network = how, Network()

    def forward(self, x: Tensor) -> Tensor:
        mean, std = torch.tensor(MEAN).reshape(3, 1, 1), torch.tensor(STD).reshape(3, 1, 1)
        if self.how == "colours":
            x = torch.flip(x * std + mean, (1,))  # to colours in [0, 1], the other way round
            x = (x - mean) / std
        if self.how == "twice":
            x = (x - mean) / std
        if self.how == "batch":
            x = x + x.mean((0, 2, 3), keepdim=True)
        return self.network(x)  # type: ignore[no-any-return]


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(Network(), tmp_path / "model.onnx")


def write(network: nn.Module, path: Path) -> Path:
    save_onnx(network.eval(), torch.zeros(1, 3, 64, 32), path, {"input_size": "[64, 32]"})
    return path


def lines_of(
    capsys: pytest.CaptureFixture[str], model: Path, file: Path, images: Path, code: int
) -> str:
    assert main(["doctor", str(model), str(file), "--images", str(images)]) == code
    return capsys.readouterr().out


def test_a_good_file_agrees(
    model: Path, tiny_market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = lines_of(capsys, model, model, tiny_market, 0)
    assert "cosine to the model: lowest 1.0000, mean 1.0000" in text
    assert "layers: 5 compared, none differs by more than 0.001 of its length" in text
    assert text.endswith("the file agrees\n")


def test_images_that_are_all_alike_tell_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "alike"
    images.mkdir()
    for number in range(3):
        Image.new("RGB", (32, 64), (90, 120, 60)).save(images / f"{number}.png")
    assert main(["doctor", str(model), str(model), "--images", str(images)]) == 2
    message = f"error: {images}: the model gives one embedding for all 3 images; name a folder"
    assert message in capsys.readouterr().err


def test_the_first_layer_that_is_not_finite_is_named(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = onnx.load(model)
    (bias,) = [each for each in damaged.graph.initializer if list(each.dims) == [20]]
    bias.CopyFrom(numpy_helper.from_array(np.full(20, np.nan, np.float32), bias.name))
    onnx.save_model(damaged, tmp_path / "damaged.onnx")
    text = lines_of(capsys, model, tmp_path / "damaged.onnx", tiny_market, 1)
    assert "8 of 8 embeddings are not finite" in text
    (layer,) = [node for node in damaged.graph.node if bias.name in node.input]
    assert f"that differs is {layer.output[0]} (Gemm), by nan of its length" in text


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("colours", "input: colour order: it takes BGR; the mean cosine is 1.0000 then"),
        (
            "twice",
            "input: normalisation twice: it takes colours in [0, 1]; the mean cosine is 1.0000",
        ),
        ("batch", "batch: an embedding differs by "),
    ],
)
def test_what_is_wrong_with_the_input_is_named(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    how: str, reason: str,
) -> None:  # fmt: skip
    text = lines_of(capsys, model, write(Spoiled(how), tmp_path / "file.onnx"), tiny_market, 1)
    assert reason in text
    assert "layers: the first of " in text
    assert "that differs is " in text


def test_the_first_layer_that_differs_is_named(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = onnx.load(model)
    weights = [tensor for tensor in changed.graph.initializer if tensor.dims == [24, 16, 3, 3]]
    weights[0].CopyFrom(
        numpy_helper.from_array(-numpy_helper.to_array(weights[0]), weights[0].name)
    )
    onnx.save(changed, tmp_path / "file.onnx")
    second = [node for node in changed.graph.node if node.op_type == "Relu"][1].output[0]
    text = lines_of(capsys, model, tmp_path / "file.onnx", tiny_market, 1)
    assert f"layers: the first of 5 that differs is {second} (Conv), by " in text
    assert "input: no other colour order or normalisation mends it" in text


def test_saturation_is_seen_in_an_int8_file(model: Path, tmp_path: Path) -> None:
    images = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    good, narrow = tmp_path / "good.onnx", tmp_path / "narrow.onnx"
    quantize_onnx(model, [images], good, method="minmax")
    quantize_onnx(model, [0.2 * images], narrow, method="minmax")
    for layer in walk(model, good, images.numpy()):
        assert layer.error < 0.05
    layers = walk(model, narrow, images.numpy())
    assert layers[0].name == "/model/Relu_output_0"  # the convolution takes it up
    assert layers[0].quantized
    assert layers[0].error > 0.2
    assert layers[0].outside > 0.01


def test_another_padding_is_seen(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = onnx.load(model)
    second = [node for node in moved.graph.node if node.op_type == "Conv"][1]
    (pads,) = [entry for entry in second.attribute if entry.name == "pads"]
    # The images are padded with ones of the first layer's output, in place of zeros.
    source, pads.ints[:] = second.input[0], [0, 0, 0, 0]
    amounts = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), "amounts")
    value = numpy_helper.from_array(np.array(5, np.float32), "value")
    moved.graph.initializer.extend([amounts, value])
    place = list(moved.graph.node).index(second)
    moved.graph.node.insert(
        place, onnx.helper.make_node("Pad", [source, "amounts", "value"], ["padded"], name="pad")
    )
    second.input[0] = "padded"
    onnx.save(moved, tmp_path / "padded.onnx")
    text = lines_of(capsys, model, tmp_path / "padded.onnx", tiny_market, 1)
    assert "padding: 100% of that difference is in the outermost pixels; the layer, or" in text


def test_a_file_for_images_of_another_size(
    tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for name, size in (("large", (64, 32)), ("small", (40, 20))):
        files.append(tmp_path / f"{name}.onnx")
        save_onnx(network, torch.zeros(1, 3, *size), files[-1], {"input_size": str(list(size))})
    text = lines_of(capsys, files[0], files[1], tiny_market, 1)
    assert "resize: the file takes 40x20, the model 64x32" in text


class TwoStreams(nn.Module):
    """Two streams whose numbers differ a hundred times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.one, self.two = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.two.weight.data *= 0.01
        self.two.bias.data *= 0.01  # type: ignore[union-attr]
        self.fc = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        one, two = self.one(x).mean((2, 3)), self.two(x).mean((2, 3))
        return self.fc(torch.cat([one, 100 * two], 1))  # type: ignore[no-any-return]


def test_a_range_that_two_layers_share_is_seen(
    tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write(TwoStreams(), tmp_path / "streams.onnx")
    images = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    quantize_onnx(model, [images], tmp_path / "int8.onnx", method="minmax")
    shared = onnx.load(tmp_path / "int8.onnx")
    first, second = (
        next(
            node
            for node in shared.graph.node
            if node.op_type == "QuantizeLinear" and f"/{name}/Conv" in node.input[0]
        )
        for name in ("one", "two")
    )
    for node in shared.graph.node:
        for place, name in enumerate(node.input):
            if name in second.input[1:]:
                node.input[place] = first.input[list(second.input).index(name)]
    onnx.save(shared, tmp_path / "shared.onnx")
    text = lines_of(capsys, model, tmp_path / "shared.onnx", tiny_market, 1)
    assert "shared observer: 1 layers have the int8 range of another one whose numbers are" in text
    assert "/two/Conv_output_0 (Conv) it is " in text


def test_a_clipping_that_int8_leaves_out_is_no_difference(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = torch.randn(8, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    network[0].weight.data *= 8  # type: ignore[union-attr, operator]
    path = write(network, tmp_path / "clipped.onnx")
    quantize_onnx(path, [images], tmp_path / "int8.onnx", method="minmax")
    layers = walk(path, tmp_path / "int8.onnx", images.numpy())
    assert layers[0].name == "/model/model.1/Clip_output_0"
    assert max(layer.error for layer in layers) < 0.05


def test_layers_with_other_names_are_matched_by_their_order(model: Path, tmp_path: Path) -> None:
    renamed = onnx.load(model)
    for node in renamed.graph.node:
        for field in (node.input, node.output):
            for place, name in enumerate(field):
                if name.startswith("/"):
                    field[place] = f"other{name}"
    onnx.save(renamed, tmp_path / "renamed.onnx")
    layers = walk(model, tmp_path / "renamed.onnx", np.zeros((2, 3, 64, 32), np.float32))
    assert [layer.operator for layer in layers] == ["Conv", "Conv", "Gemm"]
    assert all(layer.error < 1e-6 for layer in layers)


def test_bad_input(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Short(Network):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :7]

    (tmp_path / "empty").mkdir()
    short = write(Short(), tmp_path / "short.onnx")
    for file, images, message in (
        (tmp_path / "absent.onnx", tiny_market, "absent.onnx: no such file"),
        (short, tiny_market, "gives embeddings of 7 dimensions, the model of 20; it is of another"),
        (model, tmp_path / "empty", "empty: has 0 images; expected 2 or more"),
    ):
        assert main(["doctor", str(model), str(file), "--images", str(images)]) == 2
        assert message in capsys.readouterr().err


def test_a_file_that_takes_pixels_is_examined_by_its_output(
    model: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reid_edge.core.exporter import PixelInput

    path = tmp_path / "pixels.onnx"
    pixels = PixelInput(MEAN, STD, reverse=False)
    save_onnx(Network().eval(), torch.zeros(1, 3, 64, 32), path, {}, pixels=pixels)
    # It is said to take BGR, and takes RGB.
    path.write_bytes(with_metadata(path.read_bytes(), {
        "input_size": "[64, 32]", "colour_order": "BGR", "input_form": "uint8-bgr",
    }))  # fmt: skip
    text = lines_of(capsys, model, path, tiny_market, 1)
    assert "input: colour order: it takes RGB; the mean cosine is 1.0000 then" in text
    assert "layers: the first of 5 that differs is /model/Relu_output_0" in text

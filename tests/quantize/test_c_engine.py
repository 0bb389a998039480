"""The compiled int8 engine; the libraries are built by the C compiler of this machine."""

import ctypes
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from quantize.c_engine.lowering import lower
from quantize.c_engine.qdq_reader import read_network
from quantize.c_engine.source import SampleData, is_engine_folder, write_folder
from quantize.c_engine.toolchain import build, find_compiler
from quantize.deployment import export
from quantize.exporters.c_source import write_engine
from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from reid_edge.core.errors import CheckpointError, ModelError, QuantizeError
from reid_edge.core.model_file import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ONNX_INPUT,
    LoadOptions,
    ModelMetadata,
)
from reid_edge.data.decoding import normalise_array
from reid_edge.inference.backends.c_library import load
from reid_edge.inference.embedder import load_embedder

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler"),
]
ONE_THREAD = LoadOptions(threads=1)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a.astype(np.float64) * b).sum(1) / lengths)


def as_int8(model: nn.Module, images: Tensor, folder: Path) -> Path:
    """Write a model as an int8 ONNX file."""
    with torch.no_grad():
        for _ in range(2):
            model.train()(images)
    save_onnx(model.eval(), images[:1], folder / "float.onnx", {"architecture": "toy"})
    quantize_onnx(folder / "float.onnx", [images], folder / "int8.onnx", method="minmax")
    return folder / "int8.onnx"


def open_library(path: Path) -> tuple[Any, Any]:
    """Open a library as a C program does; return it and a model."""
    library, size, model = ctypes.CDLL(str(path)), ctypes.c_size_t(), ctypes.c_void_p()
    library.reid_stored_weights.restype = ctypes.c_void_p
    weights = ctypes.c_void_p(library.reid_stored_weights(ctypes.byref(size)))
    assert library.reid_create(weights, size, None, ctypes.byref(model)) == 0
    return library, model


def embed_bytes(path: Path, pixels: NDArray[np.uint8], order: str) -> NDArray[np.float32]:
    """Return the embeddings of images (N, rows, columns, 3) of bytes."""
    library, model = open_library(path)
    given, out = np.ascontiguousarray(pixels), np.empty((len(pixels), 512), np.float32)
    sizes = [ctypes.c_size_t(side) for side in given.shape[:3]]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (given, out)]
    kind = {"RGB": 1, "BGR": 2}[order]
    assert library.reid_embed(model, kind, pointers[0], *sizes, pointers[1]) == 0
    library.reid_destroy(model)
    return out


def compare_with_onnx(int8_file: Path, images: Tensor, folder: Path) -> float:
    """Build the engine of a file with few optimisations; return the lowest cosine to the file."""
    network = read_network(int8_file)
    (expected,) = onnx_session(int8_file).run(None, {ONNX_INPUT: images.numpy()})
    height, width = images.shape[2:]
    data = SampleData(np.zeros((5, height, width, 3), np.uint8), np.zeros_like(expected[:5]))
    write_folder(lower(network), ModelMetadata(), data, folder)
    command = ["-std=c11", "-O1", "-DREID_PORTABLE_ONLY", "-Wall", "-Wextra", "-Werror"]
    library = ["-shared", "-fPIC", "-include", "metadata.h", "-o", "model.so"]
    compiler = find_compiler()
    assert compiler is not None
    sources = ["model.c", "library.c", "-lm"]
    subprocess.run([*compiler, *command, *library, *sources], cwd=folder, check=True)
    found = load(folder / "model.so", ONE_THREAD).embed(images.numpy())
    return float(cosines(found, expected).min())


@pytest.fixture(scope="module")
def exported(osnet: nn.Module, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an export of OSNet x0.25, with a library for this processor."""
    folder = tmp_path_factory.mktemp("exported")
    metadata = ModelMetadata(architecture="Ö", threshold=0.5)
    result = export(osnet, images, folder, ["onnx", "onnx_int8", "c"], metadata=metadata)
    assert result.problems == []
    return folder


def test_the_library_is_as_near_to_the_model_as_the_onnx_file(
    exported: Path, osnet: nn.Module, images: Tensor
) -> None:
    with torch.no_grad():
        exact = osnet(images).numpy()
    embedder = load_embedder(exported / "model.so")
    assert embedder.description == "Ö, C library"
    assert embedder.space.input_size == (64, 32)
    found = embedder.embed(images.numpy())
    (rounded,) = onnx_session(exported / "int8.onnx").run(None, {ONNX_INPUT: images.numpy()})
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert cosines(found, exact).mean() > cosines(rounded, exact).mean() - 1e-4
    assert cosines(found, rounded).min() > 0.999


def test_batches_and_threads_do_not_change_a_bit(exported: Path, images: Tensor) -> None:
    path, given = exported / "model.so", images.numpy()
    whole = load(path, ONE_THREAD).embed(given)
    assert np.array_equal(np.concatenate([load(path, ONE_THREAD).embed(given[:1])]), whole[:1])
    assert np.array_equal(load(path, LoadOptions(threads=3)).embed(given), whole)
    assert np.array_equal(load(path, LoadOptions(threads=3)).embed(given[:2]), whole[:2])


KERNELS = ["avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod", "neon_i8mm"]


def same_bits_by_kernel(path: Path, images: NDArray[np.float32]) -> dict[str, bool]:
    """Return which kernels of this processor give the bits of the portable ones."""
    expected = load(path, ONE_THREAD, "portable").embed(images)
    found = {}
    for name in KERNELS:
        with suppress(ModelError):
            found[name] = np.array_equal(load(path, ONE_THREAD, name).embed(images), expected)
    return found


def test_all_kernels_give_the_same_bits(exported: Path, images: Tensor) -> None:
    extremes = images.numpy().copy()
    extremes[0], extremes[1], extremes[2] = 1e30, -1e30, np.nan
    same = same_bits_by_kernel(exported / "model.so", np.concatenate([images.numpy(), extremes]))
    assert all(same.values()), same
    flags = Path("/proc/cpuinfo").read_text()
    assert "avx512_vnni" not in flags or "avx512_vnni" in same


def test_kernels_of_no_such_name(exported: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.so: the processor does not have these kernels"):
        load(exported / "model.so", ONE_THREAD, "mmx")


def test_the_folder_says_what_it_is(exported: Path) -> None:
    folder = exported / "model_c"
    names = {file.name for file in folder.iterdir()}
    assert {"model.c", "model.h", "model.weights", "Makefile", "test.c", "metadata.json"} <= names
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["architecture"] == "Ö"
    assert "threshold" not in metadata
    assert not list(folder.glob("*.so"))


def test_images_of_another_size(exported: Path) -> None:
    message = r"model\.so: the model fails on images of 32x32; it takes 64x32"
    with pytest.raises(ModelError, match=message):
        load_embedder(exported / "model.so").embed(np.zeros((1, 3, 32, 32), np.float32))


@pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="columns first since Pillow 13"
)
@pytest.mark.parametrize("size", [(64, 32), (100, 40), (30, 90), (64, 31), (7, 5), (900, 400)])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_bytes_are_resized_as_pillow_does(
    exported: Path, size: tuple[int, int], order: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    resized = [Image.fromarray(one).resize((32, 64), Image.Resampling.BILINEAR) for one in pixels]
    planes = np.stack([np.asarray(one).transpose(2, 0, 1) for one in resized])
    expected = load(exported / "model.so", ONE_THREAD).embed(
        normalise_array(planes, IMAGENET_MEAN, IMAGENET_STD)
    )
    given = pixels if order == "RGB" else pixels[..., ::-1]
    assert np.array_equal(embed_bytes(exported / "model.so", given, order), expected)


def test_images_that_are_too_large(exported: Path) -> None:
    library, model = open_library(exported / "model.so")
    size, none = ctypes.c_size_t, None
    assert library.reid_embed(model, 1, none, size(0), size(64 * 32), size(32), none) == 0
    assert library.reid_embed(model, 1, none, size(0), size(64 * 32 + 1), size(32), none) == 5
    assert library.reid_embed(model, 0, none, size(0), size(64), size(33), none) == 5
    assert library.reid_embed(model, 3, none, size(0), size(64), size(32), none) == 1
    assert library.reid_embed(model, 0, none, size(1), size(64), size(32), none) == 1
    library.reid_destroy(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.replace(b"C engine 1:", b"C engine 0:"), "that is no model"),
        (lambda content: content[:18] + b"\x28\0" + content[20:], "built for another, this machi"),
        (lambda content: content[:3000], "that is no model"),
    ],
)
def test_libraries_that_are_no_models(
    exported: Path, tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(change((exported / "model.so").read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load_embedder(path)


def test_damaged_weights_in_a_library(exported: Path, tmp_path: Path) -> None:
    weights = (exported / "model_c" / "model.weights").read_bytes()
    content = (exported / "model.so").read_bytes()
    place = content.index(weights[:4096])
    path = tmp_path / "model.so"
    path.write_bytes(content[:place] + bytes([weights[0] ^ 1]) + content[place + 1 :])
    with pytest.raises(CheckpointError, match=r"model\.so: its weights are damaged; copy"):
        load_embedder(path)


class Squeeze(nn.Module):
    """Squeeze and excitation, with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 4, 1),
            nn.ReLU(),
            nn.Conv2d(4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layers(x)  # type: ignore[no-any-return]


class Everything(nn.Module):
    """A layer of every kind, with widths that are no multiples of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 13, 5, 2, 2), nn.BatchNorm2d(13), nn.ReLU6())
        self.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.grouped = nn.Sequential(nn.Conv2d(13, 26, 3, 1, 2, 2, groups=13), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(26, 26, 3, 2, 1, groups=26), nn.LeakyReLU(0.1))
        self.squeeze = Squeeze(26)
        self.norm = nn.InstanceNorm2d(26, affine=True)
        self.point, self.side = nn.Conv2d(26, 10, 1), nn.Conv2d(26, 7, (1, 3), 1, (0, 1))
        self.light = nn.Sequential(nn.Conv2d(17, 21, 1), nn.Conv2d(21, 21, 3, 1, 1, groups=21))
        self.average = nn.AvgPool2d(2)
        self.residual = nn.Conv2d(21, 21, 3, 1, 1)
        self.head = nn.Sequential(nn.Linear(21, 19, bias=False), nn.BatchNorm1d(19))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = self.norm(self.squeeze(self.depthwise(self.grouped(x))))
        x = self.light(torch.cat([self.point(x), torch.sigmoid(self.side(x))], 1))
        x = torch.relu(self.residual(x) + x)
        return self.head(self.average(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_layers_of_every_kind(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 54, 38)
    int8_file = as_int8(Everything(), images, tmp_path)
    kinds = {layer.kind for layer in lower(read_network(int8_file)).layers}
    assert kinds >= {"CONVOLUTION", "DEPTHWISE", "LIGHT", "GATE", "SUM", "NORM", "TABLE"}
    assert compare_with_onnx(int8_file, images, tmp_path / "c") > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("size", [(54, 38), (33, 21), (128, 96)])
def test_layers_of_every_kind_give_the_same_bits(tmp_path: Path, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, *size)
    int8_file = as_int8(Everything(), images, tmp_path)
    write_engine(int8_file, images, tmp_path / "model.so")
    same = same_bits_by_kernel(tmp_path / "model.so", images.numpy())
    assert all(same.values()), same


@pytest.mark.slow
@pytest.mark.parametrize("size", [(54, 38), (33, 21)])
def test_sanitizers_find_nothing(tmp_path: Path, size: tuple[int, int]) -> None:
    """Damaged weights, odd images and any floats, in all kernels of this processor."""
    torch.manual_seed(0)
    images = torch.randn(6, 3, *size)
    int8_file = as_int8(Everything(), images, tmp_path)
    folder = write_engine(int8_file, images, tmp_path / "model.so")
    compiler = find_compiler()
    assert compiler is not None
    flags = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = ["model.c", str(Path(__file__).with_name("c_engine_fuzz.c")), "-I.", "-lm"]
    subprocess.run([*compiler, *flags, "-o", "fuzz", *sources], cwd=folder, check=True)
    subprocess.run([str(folder / "fuzz"), "200"], cwd=folder, check=True)


class TwoLinearLayers(nn.Module):
    """A mean that an inner layer reads, and a linear layer behind another one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 20, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(20, 18), nn.ReLU(), nn.Linear(18, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))  # type: ignore[no-any-return]


def test_two_linear_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 20, 12)
    int8_file = as_int8(TwoLinearLayers(), images, tmp_path)
    assert compare_with_onnx(int8_file, images, tmp_path / "c") > 0.999


class Flat(nn.Module):
    """A linear layer on a whole plane, as networks for faces have it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.head = nn.Linear(5 * 4 * 4, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).flatten(1))  # type: ignore[no-any-return]


def test_a_linear_layer_on_a_plane(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randn(6, 3, 16, 16)
    int8_file = as_int8(Flat(), images, tmp_path)
    assert compare_with_onnx(int8_file, images, tmp_path / "c") > 0.999


class Upsampled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.conv(x), scale_factor=2).mean((2, 3))  # type: ignore[no-any-return]


def test_a_node_that_is_not_supported_is_named(tmp_path: Path) -> None:
    int8_file = as_int8(Upsampled(), torch.randn(2, 3, 16, 16), tmp_path)
    with pytest.raises(QuantizeError, match=r"node '/model/Resize': the C engine has no operator"):
        read_network(int8_file)


def test_a_float_file_is_refused(exported: Path) -> None:
    with pytest.raises(QuantizeError, match=r"float\.onnx: node .*: its input 'input' is not quan"):
        read_network(exported / "float.onnx")


def test_without_a_compiler_the_folder_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantize.exporters.c_source.find_compiler", lambda: None)
    images = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    result = export(Flat().eval(), images, tmp_path, ["onnx", "onnx_int8", "c"])
    *_, row = result.files
    assert row.problems == (
        f"{tmp_path / 'model_c'} is written, and not built: there is no C compiler here "
        "(cc, gcc or clang)",
    )
    assert not (tmp_path / "model.so").exists()
    assert ".kind = EMBEDDING" in (tmp_path / "model_c" / "model.c").read_text()


def test_a_folder_that_is_not_the_exports_own_is_refused(exported: Path, tmp_path: Path) -> None:
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mine, formats = tmp_path / "model_c", ["onnx", "onnx_int8", "c"]
    message = r"model_c: is not a folder that this export wrote, or has other files in it; move it"
    mine.mkdir()
    (mine / "model.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(QuantizeError, match=message):
        export(Flat().eval(), images, tmp_path, formats)
    shutil.rmtree(mine)
    shutil.copytree(exported / "model_c", mine)
    assert is_engine_folder(mine)
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(QuantizeError, match=message):
        export(Flat().eval(), images, tmp_path, formats)
    assert (mine / "notes.txt").read_text() == "mine"
    assert (mine / "model.c").read_bytes() == (exported / "model_c" / "model.c").read_bytes()
    shutil.rmtree(mine)
    mine.symlink_to(exported / "model_c")
    assert not is_engine_folder(mine)


def test_a_compiler_that_fails_is_quoted(exported: Path, tmp_path: Path) -> None:
    for file in (exported / "model_c").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.h").write_text("#error broken\n")
    compiler = find_compiler()
    assert compiler is not None
    with pytest.raises(QuantizeError, match=r"the C compiler fails: .*#error broken"):
        build(tmp_path, compiler)

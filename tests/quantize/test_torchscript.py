import contextlib
import io
import os
import runpy
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from quantize.exporters.torchscript import save_torchscript
from quantize.exporters.torchscript_archive import canonical
from quantize.fold import folded_copy
from reid_edge.core.errors import CheckpointError, QuantizeError
from reid_edge.core.int8_engine import Engine, quantized_engine, supported_engines
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.backends.torchscript_runtime import load_torchscript

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def int8_file(
    int8_osnet: fx.GraphModule, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.ts"
    save_torchscript(int8_osnet, images[:2], path, {"name": "Ö"}, engine="qnnpack")
    return path


def test_the_file_gives_the_same_bits_for_every_batch_size(
    int8_osnet: fx.GraphModule, int8_file: Path, images: Tensor
) -> None:
    loaded, metadata = load_torchscript(int8_file, "qnnpack")
    assert (metadata.notes, metadata.engine) == ({"name": "Ö"}, "qnnpack")
    with quantized_engine("qnnpack"), torch.inference_mode():
        for size in (1, 2, 7):
            assert torch.equal(loaded(images[:size]), int8_osnet(images[:size]))


def test_other_sizes_of_images(int8_osnet: fx.GraphModule, int8_file: Path) -> None:
    loaded, _ = load_torchscript(int8_file)
    larger = torch.randn(2, 3, 96, 48)
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert torch.equal(loaded(larger), int8_osnet(larger))


@pytest.mark.parametrize("engine", [name for name in supported_engines() if name != "qnnpack"])
def test_the_weights_are_packed_again_for_another_engine(
    int8_osnet: fx.GraphModule, int8_file: Path, images: Tensor, engine: Engine
) -> None:
    before = torch.backends.quantized.engine
    loaded, _ = load_torchscript(int8_file, engine)
    assert torch.backends.quantized.engine == before
    with torch.inference_mode():
        with quantized_engine(engine):
            there = loaded(images)
        with quantized_engine("qnnpack"):
            here = int8_osnet(images)
    assert F.cosine_similarity(there, here).min() > 0.9


def test_a_float_model(osnet: nn.Module, images: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "float.ts"
    save_torchscript(osnet, images[:1], path, {})
    loaded, metadata = load_torchscript(path)
    assert metadata == ModelMetadata()
    with torch.inference_mode():
        assert torch.equal(loaded(images), osnet(images))


def test_a_frozen_model_has_only_constants_and_is_close(
    osnet: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "frozen.ts"
    save_torchscript(folded_copy(osnet, images), images[:1], path, {"name": "x"}, freeze=True)
    loaded, metadata = load_torchscript(path)
    assert metadata.notes == {"name": "x"}
    assert list(loaded.parameters()) == []
    with torch.inference_mode():
        for size in (1, 7):
            expected = osnet(images[:size])
            torch.testing.assert_close(loaded(images[:size]), expected, rtol=1e-3, atol=1e-4)


def test_the_example_does_not_become_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    save_torchscript(nn.ReLU().eval(), torch.zeros(1, 3, 512, 512), path, {})
    assert path.stat().st_size < 100_000
    assert list(tmp_path.iterdir()) == [path]


class BatchOfTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]), -1)[:, :1] + float(x.shape[0])


def test_a_trace_that_does_not_generalise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ts"
    path.write_text("the former file")
    with pytest.raises(QuantizeError, match=r"the traced model .* on a batch of another size"):
        save_torchscript(BatchOfTwo().eval(), torch.zeros(2, 3, 4, 4), path, {})
    assert path.read_text() == "the former file"
    assert list(tmp_path.iterdir()) == [path]


def test_a_module_named_by_a_keyword_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential()
    model.add_module("lambda", nn.ReLU())
    with pytest.raises(QuantizeError, match=r"has the line '.*lambda.*': name no module or"):
        save_torchscript(model.eval(), torch.zeros(1, 3, 4, 4), tmp_path / "x.ts", {})
    assert not (tmp_path / "x.ts").exists()


def test_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match="evaluation mode"):
        save_torchscript(nn.ReLU().train(), torch.zeros(1, 3, 4, 4), tmp_path / "x.ts", {})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "x.ts"
    with pytest.raises(QuantizeError, match=r"x\.ts: cannot be written: No such file"):
        save_torchscript(nn.ReLU().eval(), torch.zeros(1, 3, 4, 4), path, {})


def test_unreadable_files_are_named(int8_file: Path, tmp_path: Path) -> None:
    contents = int8_file.read_bytes()
    torch.save({"weight": torch.zeros(1)}, tmp_path / "checkpoint.ts")
    (tmp_path / "text.ts").write_text("not a model")
    with zipfile.ZipFile(tmp_path / "list.ts", "w") as archive:
        archive.writestr("list/extra/metadata.json", "[1]")
    (tmp_path / "cut.ts").write_bytes(contents[: len(contents) // 2])
    expected = {
        "checkpoint.ts": "not a readable TorchScript file (damaged, or of a newer PyTorch)",
        "text.ts": "not a TorchScript file",
        "cut.ts": "cut short or damaged; copy it again",
        "list.ts": "damaged metadata; export the model again",
        "missing.ts": "no such file",
    }
    for name, problem in expected.items():
        with pytest.raises(CheckpointError) as error:
            load_torchscript(tmp_path / name)
        assert str(error.value) == f"{tmp_path / name}: {problem}"


PROGRAM = """
from pathlib import Path
import torch
from torch import nn
from quantize.exporters.torchscript import save_torchscript
from quantize.static import quantize_static

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Layer(), nn.Sequential(Layer(), nn.Conv2d(3, 3, 3)), Layer())
        self.fc = nn.Linear(3, 4)

    def forward(self, x):
        y = self.layers(x)
        return self.fc(y.mean((2, 3)) + y.amax((2, 3))) * y.shape[2]

def save_all(folder):
    folder.mkdir()
    torch.manual_seed(0)
    model, images = Net().eval(), torch.randn(4, 3, 8, 8)
    save_torchscript(model, images, folder / "plain.pt", {"architecture": "net"})
    save_torchscript(model, images, folder / "frozen.pt", {}, freeze=True)
    int8 = quantize_static(model, [images])
    save_torchscript(int8, images, folder / "int8.pt", {}, engine="qnnpack")
"""
PLACES = ("first", "again", "moved/first")


@pytest.fixture(scope="module")
def saved_thrice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models, saved twice by this process, and by another one in another folder."""
    folder = tmp_path_factory.mktemp("thrice")
    (folder / "moved").mkdir()
    (folder / "program.py").write_text(
        f"{PROGRAM}\nsave_all(Path('first'))\nsave_all(Path('again'))"
    )
    with contextlib.chdir(folder):
        runpy.run_path("program.py", run_name="__main__")
    deterministic = "torch.use_deterministic_algorithms(True)"  # as behind a training
    (folder / "moved" / "program.py").write_text(
        f"{PROGRAM}\n{deterministic}\nsave_all(Path('first'))"
    )
    subprocess.run(
        [sys.executable, "program.py"],
        cwd=folder / "moved",
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        check=True,
    )
    return folder


@pytest.mark.parametrize("name", ["plain.pt", "frozen.pt", "int8.pt"])
def test_bytes_are_a_function_of_the_model(saved_thrice: Path, name: str) -> None:
    module, _ = load_torchscript(saved_thrice / "first" / name)
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    first, again, moved = ((saved_thrice / place / name).read_bytes() for place in PLACES)
    assert first == again == moved
    assert b"debug_pkl" not in first
    for path in (Path.cwd(), saved_thrice, Path(torch.__file__).parent):
        assert str(path).encode() not in first


def test_records_are_where_pytorch_maps_them(int8_file: Path) -> None:
    content = int8_file.read_bytes()
    with zipfile.ZipFile(int8_file) as archive:
        assert archive.testzip() is None
        for record in archive.infolist():
            extra = content[record.header_offset + 28 : record.header_offset + 30]
            names = len(record.filename) + int.from_bytes(extra, "little")
            assert (record.header_offset + 30 + names) % 64 == 0
            assert record.compress_type == zipfile.ZIP_STORED


def test_classes_with_the_same_code_are_one() -> None:
    blocks = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(6)]
    model, images = nn.Sequential(*blocks).eval(), torch.randn(2, 3, 4, 4)
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, images), archive)
        content = canonical(archive.getvalue())
        loaded = torch.jit.load(io.BytesIO(content))
    assert len(content) < 0.6 * len(archive.getvalue())
    with zipfile.ZipFile(io.BytesIO(content)) as records:
        # One of each kind, a block for the first five and the last, and what holds them.
        code = [name for name in records.namelist() if name.endswith(".py")]
    assert len(code) < 10
    assert torch.equal(loaded(images), model(images))


def test_functions_and_classes_that_name_each_other() -> None:
    """What is scripted has functions, classes in annotations and several classes in a file."""
    archive = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Scripted().eval()), archive)
        content = canonical(archive.getvalue())
        loaded = torch.jit.load(io.BytesIO(content))
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded(x), Scripted()(x))
    assert canonical(content) == content


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.ReLU(), nn.ReLU6()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = F.normalize(block(x)) + x
        return F.interpolate(x, scale_factor=2.0).flatten(1)

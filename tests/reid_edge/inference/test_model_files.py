"""Every kind of model file gives the same embeddings; every damaged one gives one line."""

import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from reid_edge.core.backends import recognise
from reid_edge.core.errors import CheckpointError, ModelError, ReidError
from reid_edge.core.io import hash_file
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD, load_image
from reid_edge.data.schema import ReidData
from reid_edge.data.transforms import normalise
from reid_edge.inference.embedder import embed_files, load_embedder
from reid_edge.inference.features import on_arrays
from reid_edge.models.checkpoint import load_checkpoint, read_torch_file
from reid_edge.models.pretrained import load_pretrained
from tests.networks import built

pytestmark = pytest.mark.medium


class Brightness(nn.Module):
    """Mean of each colour: a model whose embeddings show what it was fed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Pair(nn.Module):
    """A model that gives something beside its embeddings."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x


def save_script(path: Path, module: nn.Module, metadata: object = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), torch.zeros(1, 3, 64, 32))
        extra = {} if metadata is None else {"metadata.json": json.dumps(metadata)}
        torch.jit.save(traced, str(path), _extra_files=extra)
    return path


@pytest.fixture
def images(tiny_data: ReidData) -> list[Path]:
    return [image.path for image in tiny_data.query[:3]]


def test_own_checkpoint(checkpoint_file: Path, images: list[Path]) -> None:
    embedder = load_embedder(checkpoint_file)
    assert embedder.space.input_size == (64, 32)
    assert embedder.space.colour_order == "RGB"
    assert embedder.description == "small_net, checkpoint"
    assert embedder.space.file_hash == hash_file(checkpoint_file)
    model, _ = load_checkpoint(checkpoint_file)
    batch = torch.stack([torch.from_numpy(load_image(path, 64, 32)) for path in images])
    with torch.no_grad():
        expected = model(normalise(batch, IMAGENET_MEAN, IMAGENET_STD))
    assert np.allclose(embed_files(embedder, images, batch_size=2), expected, atol=1e-5)


def test_another_input_size_is_another_space(checkpoint_file: Path, images: list[Path]) -> None:
    small, large = (load_embedder(checkpoint_file, input_size=s) for s in ((64, 32), (96, 48)))
    assert small.space.difference(small.space) is None
    assert large.space.difference(small.space) == "images of 64x32, not of 96x48"
    assert not np.allclose(embed_files(small, images), embed_files(large, images))


def test_only_a_checkpoint_runs_on_a_gpu(
    checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = save_script(tmp_path / "model.torchscript", Brightness())
    load_embedder(script, device="auto")
    with pytest.raises(ModelError, match=r"model.torchscript: a file of the kind 'TorchScript' ru"):
        load_embedder(script, device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    load_embedder(checkpoint_file, device="auto")
    with pytest.raises(ModelError, match="device cuda: torch finds no GPU; choose cpu or auto"):
        load_embedder(checkpoint_file, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gpu_and_cpu_give_the_same(checkpoint_file: Path, images: list[Path]) -> None:
    one, other = (
        torch.from_numpy(embed_files(load_embedder(checkpoint_file, device=device), images))
        for device in ("auto", "cpu")
    )
    assert torch.cosine_similarity(one, other).min() > 0.999


def test_what_does_not_fit_into_the_gpu(checkpoint_file: Path, images: list[Path]) -> None:
    def full(_: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    embedder = replace(load_embedder(checkpoint_file), embed=full)
    with pytest.raises(ModelError, match=r"3 images of 64x32 .* give a smaller --batch-size"):
        embed_files(embedder, images)


def test_flip_averaging(checkpoint_file: Path, images: list[Path]) -> None:
    embedder = load_embedder(checkpoint_file)
    flipped = load_embedder(checkpoint_file, flip_averaging=True)
    batch = torch.rand(2, 3, 64, 32).numpy()
    mirrored = batch[..., ::-1]
    expected = (embedder.embed(batch) + embedder.embed(mirrored)) / 2
    assert np.array_equal(flipped.embed(batch), expected)
    assert np.allclose(flipped.embed(batch), flipped.embed(mirrored), atol=1e-6)
    assert flipped.space.difference(embedder.space) == "flip averaging off"
    assert embedder.space.difference(flipped.space) == "flip averaging on"


def test_foreign_checkpoint_by_its_name(
    checkpoint_file: Path, tmp_path: Path, images: list[Path]
) -> None:
    state = read_torch_file(checkpoint_file)["state_dict"]
    path = tmp_path / "small_net_msmt17.pt"
    torch.save({"state_dict": {f"module.{name}": t for name, t in state.items()}}, path)
    embedder = load_embedder(path, input_size=(64, 32))
    expected = embed_files(load_embedder(checkpoint_file), images)
    assert np.array_equal(embed_files(embedder, images), expected)
    assert load_embedder(path).space.input_size == (256, 128)


def test_foreign_checkpoint_by_option(checkpoint_file: Path, tmp_path: Path) -> None:
    state = read_torch_file(checkpoint_file)["state_dict"]
    path = tmp_path / "weights.pth"
    torch.save({name: t for name, t in state.items() if "classifier" not in name}, path)
    assert load_embedder(path, architecture="small_net").description == "small_net, checkpoint"
    with pytest.raises(CheckpointError, match="the start of its name says which archit"):
        load_embedder(path)
    with pytest.raises(ModelError, match="unknown architecture 'osnet'"):
        load_embedder(path, architecture="osnet")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_embedder(path, architecture="osnet_x1_0")
    with pytest.raises(CheckpointError, match="is of small_net, not of osnet_x1_0"):
        load_embedder(checkpoint_file, architecture="osnet_x1_0")


def test_random_embedding_layer_is_refused(checkpoint_file: Path, tmp_path: Path) -> None:
    state = read_torch_file(checkpoint_file)["state_dict"]
    path = tmp_path / "small_net.pth"
    torch.save({name: t for name, t in state.items() if not name.startswith("embedding.")}, path)
    with pytest.raises(CheckpointError, match=r"embedding\.\d\.\w+' .*"):
        load_embedder(path)


def test_plain_resnets_last_stride_has_to_be_said(tmp_path: Path) -> None:
    path = tmp_path / "resnet18_market.pth.tar-60"
    torch.save({"state_dict": built("resnet18_last_stride_2").state_dict()}, path)
    with pytest.raises(
        CheckpointError,
        match=r"last stride of its resnet18, .* give --architecture resnet18 \(stride 1\) or "
        r"resnet18_last_stride_2 \(torchreid's\)",
    ):
        load_embedder(path)
    torch.save(built("resnet18_bnneck").state_dict(), tmp_path / "resnet18_own.pt")
    with pytest.raises(CheckpointError, match=r"a BNNeck, .* give --architecture resnet18_bnneck"):
        load_embedder(tmp_path / "resnet18_own.pt")
    images = torch.rand(1, 3, 64, 32).numpy()
    one, two = (
        load_embedder(path, architecture=name) for name in ("resnet18", "resnet18_last_stride_2")
    )
    assert not np.allclose(one.embed(images), two.embed(images))
    assert one.space.difference(two.space) == (
        "another architecture (resnet18_last_stride_2, not resnet18)"
    )


class FastReID(nn.Module):
    """FastReID's ResNet-18 with its BNNeck, written down a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torchvision.models.resnet18(weights=None)
        for layer in ("conv1", "downsample.0"):
            self.backbone.layer4[0].get_submodule(layer).stride = (1, 1)
        self.backbone.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.backbone.fc = nn.Identity()
        self.heads = nn.Module()
        self.heads.bottleneck = nn.Sequential(nn.BatchNorm2d(512))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads.bottleneck(self.backbone(x)[..., None, None])[..., 0, 0]


@pytest.mark.parametrize("size", [(256, 128), (64, 32), (70, 33)])
@torch.inference_mode()
def test_fastreids_first_pooling(
    tmp_path: Path, size: tuple[int, int], randomise_normalisation: Callable[[nn.Module], None]
) -> None:
    torch.manual_seed(0)
    theirs = FastReID().eval()
    randomise_normalisation(theirs)
    path = tmp_path / "resnet18_market.pth"
    torch.save({"model": theirs.state_dict()}, path)
    embedder = load_embedder(path)
    assert embedder.space.architecture == "resnet18_fastreid"
    images = torch.randn(2, 3, *size)
    expected = theirs(images.contiguous(memory_format=torch.channels_last))
    assert np.allclose(embedder.embed(images.numpy()), expected, rtol=1e-4, atol=1e-4)
    padded = built("resnet18_bnneck").eval()
    load_pretrained(padded, path)
    assert not torch.allclose(padded(images), expected, atol=0.1)


def test_fastreids_file_as_another_resnet(
    tmp_path: Path, fastreid_file: Callable[..., Path]
) -> None:
    path = fastreid_file(tmp_path / "resnet18.pth")
    for name in ("resnet18_bnneck", "resnet18"):
        with pytest.raises(CheckpointError, match=r"padding; give --architecture resnet18_fastr"):
            load_embedder(path, architecture=name)
    torch.save(built("resnet18_bnneck").state_dict(), tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"own\.pth: it is not FastReID's, whose first pool"):
        load_embedder(tmp_path / "own.pth", architecture="resnet18_fastreid")


def test_statistics_of_fastreid_are_taken(
    tmp_path: Path, fastreid_file: Callable[..., Path]
) -> None:
    halves = torch.full((1, 3, 1, 1), 127.5)
    path = fastreid_file(tmp_path / "resnet18_bnneck.pth", pixel_mean=halves, pixel_std=halves)
    embedder = load_embedder(path)
    assert (embedder.space.mean, embedder.space.std) == ((0.5,) * 3, (0.5,) * 3)
    usual = {
        "pixel_mean": torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255,
        "pixel_std": torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255,
    }
    embedder = load_embedder(fastreid_file(path, **usual))
    assert (embedder.space.mean, embedder.space.std) == (IMAGENET_MEAN, IMAGENET_STD)
    with pytest.raises(CheckpointError, match=r"'pixel_mean' is \[1\.0\], not a number for each"):
        load_embedder(fastreid_file(path, pixel_mean=torch.ones(1)))


def test_poolings_of_fastreid(tmp_path: Path, fastreid_file: Callable[..., Path]) -> None:
    path = tmp_path / "resnet18_bnneck.pth"
    with pytest.raises(CheckpointError, match=r"'heads\.pool_layer\..*' is of a pooling that this"):
        load_embedder(fastreid_file(path, **{"heads.pool_layer.attention.weight": torch.ones(1)}))
    learned = fastreid_file(path, **{"heads.pool_layer.p": torch.tensor([3.0])})
    assert load_embedder(learned).space.architecture == "resnet18_fastreid_sbs"
    with pytest.raises(CheckpointError, match=r"--architecture resnet18_fastreid_sbs"):
        load_embedder(learned, architecture="resnet18_fastreid")
    average = {"heads.pool_layer.p": torch.ones(1)}
    assert load_embedder(fastreid_file(path, **average)).space.architecture == "resnet18_fastreid"


@pytest.mark.parametrize(
    "layer", ["classifier.add_block.0.weight", "fc.0.weight"], ids=["layumi", "torchreid's fc512"]
)
def test_an_embedding_layer_that_is_not_built_is_refused(tmp_path: Path, layer: str) -> None:
    path, name = tmp_path / "net_last.pth", "resnet18_last_stride_2"
    backbone = {
        f"model.{name}": value
        for name, value in built(name).state_dict().items()
        if not name.startswith("classifier.")
    }
    # What torchvision's ResNet has behind its features is in layumi's files, and of no use there.
    head = {"model.fc.weight": torch.ones(9, 512), "classifier.classifier.0.bias": torch.ones(9)}
    torch.save(backbone | head, path)
    assert load_embedder(path, architecture=name).space.architecture == name
    torch.save(backbone | head | {layer: torch.ones(64, 512)}, path)
    with pytest.raises(
        CheckpointError,
        match=rf"net_last\.pth: '{layer}' is part of the embedding there and is not",
    ):
        load_embedder(path, architecture=name)


def test_torchscript(checkpoint_file: Path, tmp_path: Path, images: list[Path]) -> None:
    model, info = load_checkpoint(checkpoint_file)
    metadata = {
        "architecture": info.architecture,
        "input_size": json.dumps(info.input_size),
        "mean": json.dumps(info.mean),
        "std": json.dumps(info.std),
        "colour_order": "RGB",
        "parent_hash": "",
    }
    embedder = load_embedder(save_script(tmp_path / "traced.pt", model, metadata))
    assert (embedder.space.input_size, embedder.description) == (
        (64, 32),
        "small_net, TorchScript",
    )
    expected = embed_files(load_embedder(checkpoint_file), images)
    assert np.allclose(embed_files(embedder, images), expected, atol=1e-5)


def test_architecture_of_an_exported_file(tmp_path: Path) -> None:
    path = save_script(tmp_path / "named.pt", Brightness(), {"architecture": "osnet_x0_5"})
    assert load_embedder(path, architecture="osnet_x0_5").description == "osnet_x0_5, TorchScript"
    with pytest.raises(CheckpointError, match=r"named\.pt: is of osnet_x0_5, not of osnet_x1_0"):
        load_embedder(path, architecture="osnet_x1_0")


def test_input_sizes_out_of_range(checkpoint_file: Path) -> None:
    for size in ((0, 32), (64, 99999)):
        with pytest.raises(ModelError, match=r"an input of .*: sides are of 1 to 4096 pixels"):
            load_embedder(checkpoint_file, input_size=size)


def test_torchscript_without_metadata(tmp_path: Path) -> None:
    embedder = load_embedder(save_script(tmp_path / "bare.pt", Brightness()))
    assert (embedder.space.input_size, embedder.description) == (
        (256, 128),
        "unnamed model, TorchScript",
    )


def test_colour_order_mean_and_std(tmp_path: Path, images: list[Path]) -> None:
    metadata = {
        "input_size": [64, 32],
        "colour_order": "BGR",
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 2, 4],
    }
    embedder = load_embedder(save_script(tmp_path / "bgr.pt", Brightness(), metadata))
    image = torch.from_numpy(load_image(images[0], 64, 32)).float().mean((1, 2)) / 255
    expected = (image.flip(0) - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([1.0, 2, 4])
    assert np.allclose(embed_files(embedder, images[:1])[0], expected, atol=1e-5)


@pytest.fixture
def engine() -> Iterator[str]:
    """An int8 engine other than the current one."""
    former = torch.backends.quantized.engine
    others = set(torch.backends.quantized.supported_engines) - {former, "none"}
    if not others:
        pytest.skip("there is one int8 engine only")
    yield sorted(others)[0]
    torch.backends.quantized.engine = former


def test_int8_engine_is_current_while_it_runs(
    tmp_path: Path, images: list[Path], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    load = torch.jit.load

    def watched(*args: object, **kwargs: object) -> object:
        module = load(*args, **kwargs)
        seen.append(torch.backends.quantized.engine)

        def forward(x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.quantized.engine)
            return module(x)

        forward.eval = lambda: forward  # type: ignore[attr-defined]
        return forward

    monkeypatch.setattr(torch.jit, "load", watched)
    former = torch.backends.quantized.engine
    path = save_script(
        tmp_path / "int8.pt", Brightness(), {"engine": engine, "input_size": "[64, 32]"}
    )
    embedder = load_embedder(path)
    assert embedder.description == f"unnamed model, TorchScript int8 for {engine}"
    embed_files(embedder, images)
    assert seen == [engine, engine]
    assert torch.backends.quantized.engine == former


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"engine": "abacus"}, "int8 engine 'abacus', which this machine does not have"),
        ({"input_size": "[64]"}, "damaged metadata"),
        ({"input_size": [0, 32]}, "an input of 0x32: sides are of 1 to 4096 pixels"),
        ({"mean": "nothing"}, "damaged metadata"),
        ({"std": [1, 0, 1]}, "expected above zero"),
        ({"colour_order": "YUV"}, "colour order 'YUV'; expected RGB or BGR"),
        ([1, 2], "damaged metadata"),
    ],
)
def test_torchscript_with_bad_metadata(tmp_path: Path, metadata: object, message: str) -> None:
    path = save_script(tmp_path / "bad.pt", Brightness(), metadata)
    with pytest.raises(ReidError, match=message) as caught:
        load_embedder(path)
    assert "\n" not in str(caught.value)


def test_model_that_gives_no_embeddings(tmp_path: Path, images: list[Path]) -> None:
    embedder = load_embedder(save_script(tmp_path / "identity.pt", nn.Identity()))
    with pytest.raises(ModelError, match=r"gives \(3, 3, 256, 128\) for 3 images"):
        embed_files(embedder, images)


def test_model_that_gives_several_things(tmp_path: Path, images: list[Path]) -> None:
    path = save_script(tmp_path / "pair.pt", Pair())
    for flip_averaging in (False, True):
        embedder = load_embedder(path, flip_averaging=flip_averaging)
        with pytest.raises(ModelError, match=r"pair.pt: gives tuple for 3 images; expected one"):
            embed_files(embedder, images)


def test_instance_normalisation_of_one_pixel(checkpoint_file: Path, images: list[Path]) -> None:
    embedder = load_embedder(checkpoint_file)
    normalised = replace(embedder, embed=on_arrays(nn.InstanceNorm2d(3)))
    tiny = replace(normalised, space=replace(embedder.space, input_size=(1, 1)))
    with pytest.raises(ModelError, match="the model fails on images of 1x1; it may be made for"):
        embed_files(tiny, images)


def test_what_the_model_says_itself_is_kept(checkpoint_file: Path, images: list[Path]) -> None:
    def refuse(_images: np.ndarray) -> np.ndarray:
        raise ModelError("no engine here")

    embedder = replace(load_embedder(checkpoint_file), embed=refuse)
    with pytest.raises(ModelError, match=r"^no engine here$"):
        embed_files(embedder, images)


def test_model_that_fails(tmp_path: Path, images: list[Path]) -> None:
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 32, 2))
    embedder = load_embedder(save_script(tmp_path / "fixed.pt", fixed), input_size=(32, 32))
    with pytest.raises(ModelError, match="the model fails on images of 32x32; it may be made"):
        embed_files(embedder, images)


def test_bad_batches(checkpoint_file: Path, images: list[Path]) -> None:
    with pytest.raises(ModelError, match="1 image or more"):
        embed_files(load_embedder(checkpoint_file), images, batch_size=0)
    with pytest.raises(ModelError, match="workers are 0 or more"):
        embed_files(load_embedder(checkpoint_file), images, workers=-1)


def test_progress(checkpoint_file: Path, images: list[Path]) -> None:
    seen: list[tuple[int, int]] = []
    embed_files(
        load_embedder(checkpoint_file),
        images,
        batch_size=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 3), (3, 3)]


def test_kinds_are_recognised_by_content(checkpoint_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.bin"
    shutil.copy(checkpoint_file, copy)
    assert recognise(copy).name == "checkpoint"
    assert recognise(save_script(tmp_path / "a.pth", Brightness())).name == "torchscript"
    (tmp_path / "b").write_bytes(b"\x08\x09\x12\x07pytorch")
    assert recognise(tmp_path / "b").name == "onnx"
    torch.save({"a": torch.ones(1)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert recognise(tmp_path / "old").name == "checkpoint"


def test_files_that_are_no_models(checkpoint_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing\.pt: no such file"):
        load_embedder(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="is a folder; give the path of a model file"):
        load_embedder(tmp_path)
    path = tmp_path / "text.pt"
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="not a model file that is known"):
        load_embedder(path)
    path.write_bytes(checkpoint_file.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        load_embedder(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/code/__torch__.py", "class")
    with pytest.raises(CheckpointError, match="not a readable TorchScript file"):
        load_embedder(path)


def test_flipped_bits_of_a_torchscript_file(tmp_path: Path) -> None:
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    written = save_script(tmp_path / "whole.pt", layer, {"input_size": [64, 32]}).read_bytes()
    images = np.ones((1, 3, 64, 32), np.float32)
    expected = load_embedder(tmp_path / "whole.pt").embed(images)
    weights = layer[0].weight.detach().numpy().tobytes()
    path, random = tmp_path / "changed.pt", Random(0)
    said: list[str] = []
    # The names of the entries, at the end, and the weights; then anywhere.
    bits = [
        8 * written.index(weights) + 3,
        *(random.randrange(8 * len(written)) for _ in range(60)),
    ]
    bits += [
        random.randrange(8 * written.index(b"PK\x01\x02"), 8 * len(written)) for _ in range(60)
    ]
    for bit in bits:
        changed = bytearray(written)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            embedder = load_embedder(path, input_size=(64, 32))
        except ReidError as error:
            said.append(str(error))
        else:  # a date or padding: nothing that the model depends on
            assert np.array_equal(embedder.embed(images), expected)
        if bit == bits[0]:
            assert len(said) == 1
    assert len(said) > len(bits) // 3
    assert all("\n" not in line and str(path) in line for line in said)


class Trap:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, new_format: bool) -> None:
    path = tmp_path / "osnet_x0_25.pth"
    torch.save({"a": Trap(tmp_path / "mark")}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match="holds pickled Python objects"):
        load_embedder(path)
    path.write_bytes(pickle.dumps(Trap(tmp_path / "mark"), protocol=2))
    with pytest.raises(CheckpointError):
        load_embedder(path)
    assert not (tmp_path / "mark").exists()

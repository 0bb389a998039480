"""Checkpoints come back whole, and nothing in them is ever run."""

import copy
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import nn

from reid_edge.core.errors import CheckpointError
from reid_edge.core.io import hash_file
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe, load_checkpoint, read_torch_file, save_checkpoint
from reid_edge.models.custom_widths import apply_widths, match_normalisation, widths_of
from reid_edge.models.pretrained import load_pretrained

pytestmark = pytest.mark.usefixtures("short_networks")

SIZE = (64, 32)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[return-value]


def narrowed() -> nn.Module:
    """A network whose embedding layer reads 20 channels of its last convolution."""
    model = build_model("small_net", num_classes=4)
    apply_widths(model, {"conv4": [32, 20], "embedding.0": [20, 32]})
    match_normalisation(model, {"bn4.weight": torch.ones(20)})
    return model.eval()


def test_the_memory_layout_does_not_count(tmp_path: Path) -> None:
    model = build_model("osnet_x0_25", num_classes=4)
    info = describe(model, "osnet_x0_25", input_size=SIZE)
    save_checkpoint(tmp_path / "rows.pt", model, info)
    save_checkpoint(tmp_path / "channels.pt", model.to(memory_format=torch.channels_last), info)
    assert hash_file(tmp_path / "rows.pt") == hash_file(tmp_path / "channels.pt")


def test_a_stock_model_comes_back(tmp_path: Path) -> None:
    model = build_model("osnet_x0_25", num_classes=4).eval()
    info = describe(model, "osnet_x0_25", input_size=SIZE, metrics={"mAP": 0.5}, parent_hash="p")
    save_checkpoint(tmp_path / "m.pt", model, info)
    loaded, found = load_checkpoint(tmp_path / "m.pt")
    assert found == info
    assert found.widths == {}
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(loaded(images), model(images))


def test_widths_of_its_own_come_back(tmp_path: Path) -> None:
    model = narrowed()
    info = describe(model, "small_net", input_size=SIZE)
    assert info.widths == {"conv4": [32, 20], "embedding.0": [20, 32]}
    save_checkpoint(tmp_path / "m.pt", model, info)
    loaded, _ = load_checkpoint(tmp_path / "m.pt")
    assert widths_of(loaded) == widths_of(model)
    images = torch.randn(2, 3, *SIZE)
    assert torch.equal(loaded(images), model(images))


def test_a_stock_checkpoint_is_a_plain_state_dictionary(tmp_path: Path) -> None:
    model = build_model("small_net", num_classes=4)
    info = describe(model, "small_net", input_size=SIZE)
    save_checkpoint(tmp_path / "m.pt", model, info)
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    assert content["format_version"] == 2
    assert content["colour_order"] == "RGB"
    build_model("small_net", num_classes=4).load_state_dict(content["state_dict"], strict=True)


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "touched"
    torch.save({"state_dict": Payload(str(mark))}, tmp_path / "zip.pt", pickle_protocol=protocol)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(str(mark)), protocol=protocol))
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    for name in ("zip.pt", "plain.pt", "module.pt"):
        with pytest.raises(CheckpointError, match="pickled Python objects") as caught:
            read_torch_file(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64])
def test_scalars_of_numpy_1(tmp_path: Path, kind: type[np.generic]) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "rank1": kind(1)}, tmp_path / "new.pth.tar-60")
    with (
        zipfile.ZipFile(tmp_path / "new.pth.tar-60") as new,
        zipfile.ZipFile(tmp_path / "old.pth.tar-60", "w") as old,
    ):
        for name in new.namelist():
            content = new.read(name)
            # All in which their pickles differ is the module of the function that makes a scalar.
            old.writestr(name, content.replace(b"cnumpy._core.mult", b"cnumpy.core.mult"))
    assert b"cnumpy.core.multiarray\nscalar\n" in (tmp_path / "old.pth.tar-60").read_bytes()
    found = read_torch_file(tmp_path / "old.pth.tar-60")
    assert (found["rank1"], type(found["rank1"])) == (1, kind)
    assert torch.equal(found["state_dict"]["w"], torch.ones(2))


def test_what_numpy_1_wrote(tmp_path: Path) -> None:
    # pickle.dumps({"rank1": np.float32(0.5)}, 2) of numpy 1.26.4, between what torch writes.
    written = (
        b"\x80\x02}q\x00X\x05\x00\x00\x00rank1q\x01cnumpy.core.multiarray\nscalar\nq\x02cnumpy\n"
        b"dtype\nq\x03X\x02\x00\x00\x00f4q\x04\x89\x88\x87q\x05Rq\x06(K\x03X\x01\x00\x00\x00<q\x07"
        b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x08bc_codecs\nencode\nq\tX\x04\x00\x00\x00"
        b"\x00\x00\x00?q\nX\x06\x00\x00\x00latin1q\x0b\x86q\x0cRq\r\x86q\x0eRq\x0fs."
    )
    torch.save({}, tmp_path / "empty.pt")
    with (
        zipfile.ZipFile(tmp_path / "empty.pt") as empty,
        zipfile.ZipFile(tmp_path / "model.pth.tar-60", "w") as file,
    ):
        for name in empty.namelist():
            content = written if name.endswith("/data.pkl") else empty.read(name)
            file.writestr(name, content)
    assert read_torch_file(tmp_path / "model.pth.tar-60") == {"rank1": 0.5}


def test_damaged_files_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("cut.pt", "text.pt", "empty.pt"):
        with pytest.raises(CheckpointError, match=f"{name}: not a readable checkpoint"):
            read_torch_file(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such file"):
        read_torch_file(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="is a folder; give the path of a checkpoint"):
        read_torch_file(tmp_path)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_torch_file(tmp_path / "list.pt")


def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "foreign.pt")
    with pytest.raises(
        CheckpointError, match=r"not a checkpoint of this program.*train\.pretrained"
    ):
        load_checkpoint(tmp_path / "foreign.pt")
    torch.save({"state_dict": {}, "format_version": 99}, tmp_path / "newer.pt")
    with pytest.raises(CheckpointError, match="format 99, expected 2"):
        load_checkpoint(tmp_path / "newer.pt")


def test_a_former_key_is_refused_with_the_new_one(tmp_path: Path) -> None:
    model = build_model("small_net", num_classes=4)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, "small_net", input_size=SIZE))
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    content["deviation"] = content.pop("std")
    torch.save({**content, "format_version": 1}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "m.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'm.pt'}: the key 'deviation' of checkpoint format 1 is 'std' since format 2; "
        "run the stage that wrote the file again, or give it as train.pretrained"
    )
    # The second way works: weights are taken whatever the format is.
    assert load_pretrained(build_model("small_net", num_classes=4), tmp_path / "m.pt").dropped == ()


@pytest.mark.parametrize(
    "damage",
    [
        {"input_size": 64},
        {"num_classes": "four"},
        {"widths": 5},
        {"widths": {"embedding.0": 5}},
        {"state_dict": 5},
        {"unknown": 1},
        {"metrics": {"mAP": "good"}},
        {"mean": (0.5, 0.5)},
        {"state_dict": {"conv1.weight": 5}},
        {"input_size": (0, 32)},
        {"input_size": (64.5, 32)},
        {"input_size": torch.zeros(2)},
        {"mean": (0.5, 0.5, float("nan"))},
        {"std": (0.2, 0.2, 0.0)},
        {"std": (0.2, float("inf"), 0.2)},
        {"std": "0.2"},
        {"colour_order": "YUV"},
        {"num_classes": 0},
        {"num_classes": 10**15},
        {"embedding_dim": 10**15},
        {"widths": {5: [1, 1]}},
        {5: 5},
        {"state_dict": {5: torch.ones(1)}},
    ],
)
def test_damaged_content(tmp_path: Path, damage: dict[str, object]) -> None:
    model = build_model("small_net", num_classes=4)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, "small_net", input_size=SIZE))
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save({**content, **damage}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=r"m\.pt: damaged checkpoint .*; write it again") as e:
        load_checkpoint(tmp_path / "m.pt")
    assert "\n" not in str(e.value)


FLAWS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "int": (lambda t: t.int(), "has values of type int32, expected floating point"),
    "bool": (lambda t: t.bool(), "has values of type bool, expected floating point"),
    "complex": (lambda t: t.to(torch.complex64), "has values of type complex64, expected floating"),
    "sparse": (lambda t: t.to_sparse(), "is a sparse or nested tensor, expected a dense one"),
    "meta": (lambda t: t.to("meta"), r"has a shape and no values \(device meta\)"),
    "quantized": (
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        "is a quantized tensor, expected floating point",
    ),
    "nan": (lambda t: t * float("nan"), "has values that are NaN or infinite"),
    "infinite": (lambda t: t / 0, "has values that are NaN or infinite"),
    "repeated": (
        lambda t: torch.ones(1).expand(t.shape), "claims to be larger than its values in the file"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # PyTorch announces what it will change in quantized tensors
@pytest.mark.parametrize("flaw", FLAWS)
def test_tensors_that_cannot_be_weights(tmp_path: Path, flaw: str) -> None:
    change, message = FLAWS[flaw]
    model = build_model("small_net", num_classes=4)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, "small_net", input_size=SIZE))
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    name = "conv4.weight"
    content["state_dict"][name] = change(content["state_dict"][name])
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=f"m.pt: damaged checkpoint .*'{name}' {message}"):
        load_checkpoint(tmp_path / "m.pt")
    torch.save(content["state_dict"], tmp_path / "small_net.pt")
    with pytest.raises(CheckpointError, match=f"small_net.pt: '{name}' {message}"):
        load_pretrained(build_model("small_net"), tmp_path / "small_net.pt")


def test_weights_that_are_all_zero(tmp_path: Path) -> None:
    model = build_model("small_net", num_classes=4)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    save_checkpoint(tmp_path / "m.pt", model, describe(model, "small_net", input_size=SIZE))
    with pytest.raises(CheckpointError, match=r"damaged checkpoint .*the weights of all layers"):
        load_checkpoint(tmp_path / "m.pt")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: the weights of all layers are zero"):
        load_pretrained(build_model("small_net"), tmp_path / "w.pt")


def test_half_precision_is_taken(tmp_path: Path) -> None:
    state = build_model("small_net").half().state_dict()
    torch.save(state, tmp_path / "w.pt")
    model = build_model("small_net")
    load_pretrained(model, tmp_path / "w.pt")
    assert torch.equal(
        model.state_dict()["embedding.0.weight"], state["embedding.0.weight"].float()
    )


@pytest.fixture(scope="module")
def written(short_networks: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("own") / "m.pt"
    model = build_model("small_net", num_classes=4)
    save_checkpoint(path, model, describe(model, "small_net", input_size=SIZE))
    return path.read_bytes()


def test_any_changed_bit_is_refused(tmp_path: Path, written: bytes) -> None:
    path, random = tmp_path / "m.pt", Random(0)
    # All bits of the first and last record, which say where everything is, and others of the file.
    ends = [*range(8 * 64), *range(8 * (len(written) - 100), 8 * len(written))]
    anywhere = [random.randrange(8 * len(written)) for _ in range(100)]
    for bit in [*random.sample(ends, 100), *anywhere]:
        changed = bytearray(written)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"m\.pt: not a readable checkpoint") as caught:
            read_torch_file(path)
        assert "\n" not in str(caught.value)
    for end in (len(written) - 1, len(written) - 64, len(written) - 71, len(written) - 93):
        path.write_bytes(written[:end])
        with pytest.raises(CheckpointError, match=r"m\.pt: not a readable checkpoint"):
            read_torch_file(path)
    path.write_bytes(written)
    load_checkpoint(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


def test_one_without_a_hash_is_checked_by_its_entries(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(written)
    content = torch.load(tmp_path / "m.pt", weights_only=True)
    torch.save(content, tmp_path / "older.pt")
    load_checkpoint(tmp_path / "older.pt")
    older = (tmp_path / "older.pt").read_bytes()
    value = content["state_dict"]["conv4.weight"].numpy().tobytes()
    changed = bytearray(older)
    changed[older.index(value)] ^= 1
    (tmp_path / "older.pt").write_bytes(changed)
    with pytest.raises(CheckpointError, match=r"older\.pt: not a readable .*damaged: .*copy it ag"):
        load_checkpoint(tmp_path / "older.pt")


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        (
            {"embedding.0": [0, 32]},
            r"widths of 'embedding.0' must be two positive numbers, not \[0, 32\]",
        ),
        (
            {"embedding.0": [32]},
            r"widths of 'embedding.0' must be two positive numbers, not \[32\]",
        ),
        ({"odd": [7, 8]}, r"widths \[7, 8\] of 'odd' do not fit its 2 groups"),
        ({"embedding": [1, 1]}, "widths name 'embedding', which is no layer of the architecture"),
    ],
)
def test_impossible_widths(widths: dict[str, list[int]], message: str) -> None:
    model = build_model("small_net", num_classes=4)
    model.add_module("odd", nn.Conv2d(8, 8, 1, groups=2))
    with pytest.raises(CheckpointError, match=message):
        apply_widths(model, widths)


def test_widths_that_lie_are_refused(tmp_path: Path) -> None:
    model = narrowed()
    info = describe(model, "small_net", input_size=SIZE)
    wrong = copy.deepcopy(info)
    wrong.widths["embedding.0"] = [10, 32]
    save_checkpoint(tmp_path / "m.pt", model, wrong)
    with pytest.raises(CheckpointError, match="weights do not fit small_net"):
        load_checkpoint(tmp_path / "m.pt")
    wrong.widths["nowhere"] = [1, 1]
    save_checkpoint(tmp_path / "m.pt", model, wrong)
    with pytest.raises(CheckpointError, match="'nowhere', which is no layer"):
        load_checkpoint(tmp_path / "m.pt")

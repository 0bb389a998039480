"""Code in a TorchScript file is checked before it is run: it may compute, and nothing else."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from reid_edge.core.errors import CheckpointError
from reid_edge.inference.backends import torchscript_runtime, torchscript_trial
from reid_edge.inference.backends.torchscript_check import check_torchscript
from reid_edge.inference.embedder import load_embedder

pytestmark = pytest.mark.medium


def quietly_save(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module.eval()), str(path))
    return path


@pytest.fixture
def file_with(tmp_path: Path) -> Callable[[str], Path]:
    """Write a file that runs a line when it is loaded; ``path`` is a path in it."""

    class Net(nn.Module):
        def __init__(self, mark: str) -> None:
            super().__init__()
            self.mark = mark

        @torch.jit.export
        def __getstate__(self) -> tuple[str, bool]:
            return self.mark, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[str, bool]) -> None:
            self.mark, self.training = state

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    plain = quietly_save(Net(str(tmp_path / "mark")), tmp_path / "plain.pt")

    def write(line: str) -> Path:
        path = tmp_path / "trap.pt"
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
            for record in source.infolist():
                content = source.read(record)
                if record.filename.endswith(".py"):
                    before, end, after = content.decode().partition("    return None\n")
                    assert end
                    added = f"    path = self.mark\n    {line}\n"
                    content = f"{before}{added}{end}{after}".encode()
                if not record.filename.endswith(".debug_pkl"):
                    target.writestr(record.filename, content)
        return path

    return write


def test_the_trap_would_work(file_with: Callable[[str], Path], tmp_path: Path) -> None:
    path = file_with("torch.save([1], path)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path))
    assert (tmp_path / "mark").is_file()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.save([1], path)", "aten::save"),
        ("ops.aten.save([1], path)", "aten::save"),
        ("f = torch.save", "aten::save"),
        ("a = [1].save(path)", "aten::save"),
        ('a = getattr([1], "save")(path)', "aten::save"),
        ('a = getattr([1], "sa" "ve")(path)', "aten::save"),
        ('a = getattr(torch, "save")([1], path)', "aten::save"),
        ("t = torch", "torch"),
        ("o = ops", "ops"),
        ("y = torch.from_file(path, True, 8)", "aten::from_file"),
        ("ops.image.write_file(path, torch.zeros([8]))", "image::write_file"),
        ("y = ops.image.read_file(path)", "image::read_file"),
        ('print("same person")', "print"),
        ("y = fork(self.__setstate__, path)", "fork"),
        ("y = torch.manual_seed(0)", "aten::manual_seed"),
        ('y = ops.prim.rpc_sync("worker", "f", ())', "prim::rpc_sync"),
        ("y = ops.c10d.barrier(path)", "c10d::barrier"),
        ("y = __torch__.torch.classes.dist_c10d.Work()", "the class dist_c10d.Work"),
        ("y = __torch__.torch", "the class torch"),
        ("y = 1 # type: int", "a comment with a type"),
    ],
)
def test_what_touches_the_world(
    file_with: Callable[[str], Path], tmp_path: Path, line: str, found: str
) -> None:
    before = set(tmp_path.iterdir())
    path = file_with(line)
    with pytest.raises(CheckpointError) as error:
        load_embedder(path)
    assert str(error.value) == (
        f"{path}: not loaded, it uses {found}, which no model needs and which may do more than "
        "compute; export the model again without it, or give its checkpoint"
    )
    assert set(tmp_path.iterdir()) == before | {path}


def test_harmless_lines(file_with: Callable[[str], Path]) -> None:
    check_torchscript(file_with("y = torch.relu_(torch.zeros([1]))"))
    check_torchscript(file_with('torch.warn(path.replace("a", "b"), 2)'))


@pytest.mark.parametrize(
    ("loop", "may_be_endless"),
    [
        ("for i in range(3):", False),
        ("for i in range(torch.len([1, 2])):", False),
        ("for i in range(torch.sub(torch.len([1, 2]), 1)):", False),
        ("for i in range(torch.floordiv(torch.dim(torch.zeros([1])), 1)):", False),
        ("for i in [1, 2]:", False),
        ("for i in range(9223372036854775807):", True),
        ("for i in range(torch.size(torch.zeros([1]), 0)):", True),
        ("for i in range(torch.len(torch.zeros([1]))):", True),
        ("for i in range(9):\n     for j in range(9):", True),
        ("for i in range(9):\n      self.__setstate__((path, True))", True),
        ("for i in range(torch.mul(100000, 100000)):", True),
        ("for i in range(torch.add(n, 1)):", True),
        ("while True:", True),
    ],
)
def test_loops_without_a_count_are_seen(
    file_with: Callable[[str], Path], loop: str, may_be_endless: bool
) -> None:
    path = file_with(f"n = 1\n    {loop}\n      y = torch.add(n, 1)")
    assert check_torchscript(path) is may_be_endless


def test_a_loop_that_does_not_end(
    file_with: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = partial(torchscript_trial.try_in_own_process, limit_s=6)
    monkeypatch.setattr(torchscript_runtime, "try_in_own_process", trial)
    path = file_with('self.mark = "a"\n    while torch.len(self.mark) > 0:\n      self.mark = "b"')
    with pytest.raises(CheckpointError) as error:
        load_embedder(path)
    assert str(error.value) == (
        f"{path}: not loaded, it has a loop that did not end within 6 seconds; export the model "
        "with torch.jit.trace, or give its checkpoint"
    )


def test_a_loop_that_ends(file_with: Callable[[str], Path]) -> None:
    path = file_with("for i in range(torch.mul(2, 2)):\n      y = 1")
    assert torchscript_runtime.load_torchscript(path)[0](torch.zeros(1, 3, 2, 2)).shape == (1, 3)


def test_objects_in_the_pickle(file_with: Callable[[str], Path], tmp_path: Path) -> None:
    whole = file_with("y = 1")
    for content, found in (
        (b"\x80\x02c__torch__.torch.classes.dist_c10d\nProcessGroup\n.", "dist_c10d.ProcessGroup"),
        (b"\x80\x02cposix\nsystem\n.", "posix.system"),
        (pickle.dumps(Path, protocol=4), "STACK_GLOBAL"),
    ):
        path = tmp_path / "other.pt"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for record in source.infolist():
                is_data = record.filename.endswith("/data.pkl")
                target.writestr(record.filename, content if is_data else source.read(record))
        with pytest.raises(CheckpointError, match=f"not loaded, it uses .*{found}, which no"):
            check_torchscript(path)


def test_operators_of_the_lite_interpreter(tmp_path: Path) -> None:
    class Saves(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "mark")
            return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (Saves(), nn.Conv2d(3, 4, 1)):
            torch.jit.script(module)._save_for_lite_interpreter(str(tmp_path / "m.ptl"))
    check_torchscript(tmp_path / "m.ptl")
    # Without the code, what the lite interpreter runs is checked by itself.
    with zipfile.ZipFile(tmp_path / "m.ptl") as source:
        content = next(source.read(name) for name in source.namelist() if "bytecode" in name)
    evil = content.replace(b"\x0c\x00\x00\x00aten::conv2d", b"\x0a\x00\x00\x00aten::save")
    assert evil != content
    with zipfile.ZipFile(tmp_path / "bad.ptl", "w") as target:
        target.writestr("bad/version", "3")
        target.writestr("bad/code/__torch__.py", "")
        target.writestr("bad/bytecode.pkl", evil)
    with pytest.raises(CheckpointError, match="it uses aten::save, which"):
        load_embedder(tmp_path / "bad.ptl")


def test_a_second_record_under_the_same_name(
    file_with: Callable[[str], Path], tmp_path: Path
) -> None:
    """PyTorch takes one of the two, and no other is checked in its place."""
    trap = file_with("torch.save([1], path)")
    good = tmp_path / "plain.pt"
    for first, second in ((trap, good), (good, trap)):
        path = tmp_path / "double.pt"
        with zipfile.ZipFile(path, "w") as target, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for source in (first, second):
                with zipfile.ZipFile(source) as archive:
                    for record in archive.infolist():
                        name = "double/" + record.filename.partition("/")[2]
                        target.writestr(name, archive.read(record))
        try:
            check_torchscript(path)
        except CheckpointError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.load(str(path))
        assert not (tmp_path / "mark").exists()


def test_flipped_bits_are_one_line(file_with: Callable[[str], Path], tmp_path: Path) -> None:
    content = file_with("y = 1").read_bytes()
    path, messages = tmp_path / "flipped.pt", []
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            load_embedder(path)
        except CheckpointError as error:
            messages.append(str(error))
    assert messages
    assert not [message for message in messages if "\n" in message]


def test_what_is_in_a_record_is_compared_with_its_sum(tmp_path: Path) -> None:
    path = quietly_save(nn.Conv2d(3, 64, 3), tmp_path / "conv.pt")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        record = next(r for r in archive.infolist() if r.filename.endswith("/data/0"))
    content[record.header_offset + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"conv\.pt: cut short or damaged \(.*\); copy it"):
        load_embedder(path)


class Scripted(nn.Module):
    """What scripted models are made of: branches, loops, lists, dictionaries, strings."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.gamma = nn.Parameter(torch.ones(1))
        self.lstm = nn.LSTM(3, 3)

    def forward(self, x: Tensor, mode: str = "mean") -> Tensor:
        seen: dict[str, list[Tensor]] = {"all": []}
        for number, block in enumerate(self.blocks):
            x = block(x) * self.gamma if number % 2 == 0 else x + block(x)
            seen["all"].append(x)
        if self.training and mode not in ("mean", "max"):
            raise ValueError(f"unknown mode {mode}")
        x = nn.functional.interpolate(torch.cat(seen["all"]), scale_factor=0.5, mode="bilinear")
        while x.shape[-1] > 4:
            x = nn.functional.max_pool2d(x, 2)
        y, _ = self.lstm(x.flatten(2).permute(2, 0, 1))
        return nn.functional.normalize(y.mean(0))


@pytest.mark.parametrize(
    "make",
    [
        Scripted,
        torchvision.models.resnet18,
        torchvision.models.shufflenet_v2_x0_5,
        lambda: nn.TransformerEncoderLayer(4, 2),
    ],
)
def test_models_of_others_pass(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    may_be_endless = check_torchscript(quietly_save(make(), tmp_path / "model.pt"))
    assert may_be_endless is (make is Scripted)  # only that has a `while`


def test_a_traced_detector_passes(tmp_path: Path) -> None:
    """What Ultralytics exports is traced: views, strides, chunks, upsampling, nms."""

    class Detector(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            one, other = nn.functional.silu(x).chunk(2, 1)
            joined = (
                torch.cat((nn.functional.interpolate(one, scale_factor=2.0), other), 1)
                if one.shape[2] != other.shape[2]
                else one * other.sigmoid()
            )
            boxes = joined.view(joined.shape[0], 4, -1).transpose(1, 2)[0]
            kept = torchvision.ops.nms(boxes, boxes[:, 0], 0.5)
            return boxes[kept]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Detector(), torch.rand(1, 8, 4, 4), check_trace=False)
        content = io.BytesIO()
        torch.jit.save(traced, content)
    (tmp_path / "traced.torchscript").write_bytes(content.getvalue())
    check_torchscript(tmp_path / "traced.torchscript")

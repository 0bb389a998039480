import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from quantize.timing import Model, measure_side_by_side
from quantize.worker import Call, Worker
from reid_edge.core.errors import QuantizeError
from reid_edge.inference.backends.torchscript_runtime import load_torchscript

pytestmark = pytest.mark.medium

MEBIBYTE = 2**20
SHAPE = (3, 8, 8)


class HoldsWeights(nn.Module):
    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(numbers))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] == 8
        return self.weights.sum() * images


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two TorchScript files: of a few bytes, and of 41 MiB of weights."""
    folder = tmp_path_factory.mktemp("files")
    paths = {"small": folder / "small.pt", "large": folder / "large.pt"}
    for path, numbers in zip(paths.values(), (8, 41 * MEBIBYTE // 4), strict=True):
        torch.jit.script(HoldsWeights(numbers)).save(path)
    return paths


def open_file(path: Path, shape: tuple[int, int, int] = SHAPE) -> Model:
    return Model(partial(torch.jit.load, str(path)), shape)


def test_models_are_measured_beside_the_first(files: dict[str, Path]) -> None:
    said: list[str] = []
    measured = measure_side_by_side(
        {name: open_file(path) for name, path in files.items()},
        batches=(1, 3),
        threads=(1, 2),
        rounds=3,
        progress=said.append,
    )
    assert list(measured) == ["small", "large"]
    for measurement in measured.values():
        timings = measurement.timings
        assert [(t.threads, t.batch) for t in timings] == [(1, 1), (1, 3), (2, 1), (2, 3)]
        for timing in timings:
            assert 0 < timing.lower_quartile_ms <= timing.median_ms <= timing.upper_quartile_ms
            assert timing.cpu_ms > 0
            assert timing.images_per_second == pytest.approx(1000 * timing.batch / timing.median_ms)
    assert all(timing.speedup == 1 for timing in measured["small"].timings)
    small, large = (m.peak_bytes for m in measured.values())
    assert small is not None
    assert large is not None
    # The weights and no more than a copy of them: the libraries alone hold hundreds of MiB.
    assert 40 * MEBIBYTE <= large - small <= 90 * MEBIBYTE
    assert any("batch 3, 2 thread(s)" in line for line in said)


def test_what_goes_wrong_in_the_process_is_reported_with_the_models_name(
    files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(QuantizeError, match=r"lost: .*no\.such"):
        measure_side_by_side({"lost": open_file(tmp_path / "no.such")})
    with Worker("other size", open_file(files["small"]).open_model, (3, 4, 4)) as worker:
        worker.open(threads=1)
        with pytest.raises(QuantizeError, match=r"other size: .*AssertionError"):
            worker.run(batch=1)


def test_what_a_runtime_prints_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "reid_edge.libraries")
    # As native code does.
    with Worker("talks", partial(os.write, 2, b"[W1] Warning: a\n[W2] Warning: b\n"), SHAPE) as one:
        one.open(threads=1)
        assert caplog.messages == ["talks: [W1] Warning: a", "talks: [W2] Warning: b"]
        one.open(threads=1)
        assert len(caplog.messages) == 4
    assert capfd.readouterr() == ("", "")


class Suppresses(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        boxes = images.flatten(0, 2)[:, :4]
        return boxes[torchvision.ops.nms(boxes, boxes[:, 0], 0.5)]


def load_checked(path: Path) -> Call:
    return load_torchscript(path)[0]


def test_operators_of_torchvision_are_there_for_a_file_that_uses_them(tmp_path: Path) -> None:
    path = tmp_path / "suppresses.pt"
    torch.jit.script(Suppresses()).save(path)
    with Worker("suppresses", partial(load_checked, path), SHAPE) as worker:
        worker.open(threads=1)
        assert worker.run(batch=1).wall_ms > 0


def test_a_process_that_dies_is_reported_and_one_that_hangs_is_ended() -> None:
    with (
        Worker("dies", partial(os._exit, 9), SHAPE) as worker,
        pytest.raises(QuantizeError, match=r"dies: its process ended with exit code 9"),
    ):
        worker.open(threads=1)
    hangs = Worker("hangs", partial(time.sleep, 600), SHAPE)
    hangs._connection.send(("open", 1))
    start = time.monotonic()
    hangs.__exit__(None, None, None)
    assert time.monotonic() - start < 60
    assert not hangs._process.is_alive()


MEASURING = """
import signal
import sys
import time
from functools import partial
import torch
from quantize.timing import Model, measure_side_by_side

# A shell lets what it starts in the background ignore Ctrl-C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
opens = [partial(torch.jit.load, sys.argv[1])] * 2
if sys.argv[2] == "opening":
    opens[1] = partial(time.sleep, 600)  # so that it is not over before it is interrupted
models = {str(n): Model(open, (3, 8, 8)) for n, open in enumerate(opens)}
try:
    measure_side_by_side(models, rounds=10**7, progress=lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("moment", ["opening", "batch 1"])
def test_an_interrupt_ends_all_processes_without_a_word(
    files: dict[str, Path], moment: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MEASURING, str(files["small"]), moment],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(moment):
                break
        time.sleep(1)  # the libraries are being loaded, or models called in turns
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
        try:
            # Ends when the last process has: all of them hold the pipes.
            out, err = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert (out, err, process.returncode) == ("interrupted\n", "", 0)


def open_noting(path: Path, name: str) -> Call:
    """Open a model that writes its name on every call."""

    def call(images: Tensor) -> object:
        with path.open("a") as file:
            file.write(name)
        return images

    return call


def test_a_turn_has_as_many_calls_as_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    models = {name: Model(partial(open_noting, path, name), SHAPE, ()) for name in "ab"}
    measure_side_by_side(models, batches=(1,), rounds=2, calls=3)
    # Each timed call follows one that is not timed. Before the turns, each model is called for its
    # memory; two turns are not counted.
    assert path.read_text() == "aabb" + 4 * (6 * "a" + 6 * "b")


def test_refusals(files: dict[str, Path]) -> None:
    with pytest.raises(QuantizeError, match="no models"):
        measure_side_by_side({})
    models = {"small": open_file(files["small"])}
    for wrong in (
        {"rounds": 1}, {"batches": ()}, {"batches": (1, 0)}, {"threads": (0,)}, {"calls": 0},
    ):  # fmt: skip
        with pytest.raises(QuantizeError, match="2 rounds or more, and batches, threads and calls"):
            measure_side_by_side(models, **wrong)  # type: ignore[arg-type]

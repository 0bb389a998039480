"""What several packages' tests need."""

import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData
from reid_edge.data.synthetic import (
    MotSettings,
    SyntheticSettings,
    write_synthetic_market1501,
    write_synthetic_mot,
)
from tests.networks import built, small_networks

# Marker expressions such as "not slow and not medium", and the marks of a whole file.
EXCLUSIONS = re.compile(r"not \w+( and not \w+)*")
MARKS = re.compile(r"^pytestmark = (\[[^\]]*|.*)", re.MULTILINE)
# New modules after which a freeze is worth its time.
MANY_MODULES = 100


def pytest_configure() -> None:
    """Keep compiled modules, also where the environment says otherwise, as it does in containers.

    The workers and the hundreds of processes that tests start would compile each module again.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file that is left out as a whole: importing some takes seconds."""
    expression: str = config.option.markexpr
    if collection_path.suffix != ".py" or not EXCLUSIONS.fullmatch(expression):
        return None
    found = MARKS.search(collection_path.read_text(encoding="utf-8"))
    marks = set(re.findall(r"mark\.(\w+)", found.group())) if found else set()
    return True if marks & set(re.findall(r"not (\w+)", expression)) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("medium") is None)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what was imported, millions of objects each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Collect once; pytest does so five times at its end, of all objects that are left."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def modules_passed_over() -> list[int]:
    """The number of modules at the last freeze, in a list so that it can be changed."""
    return [len(sys.modules)]


@pytest.fixture(autouse=True)
def short_collections(modules_passed_over: list[int]) -> Iterator[None]:
    """Let the garbage collector pass over what a test has imported, too.

    Lightning, NNI and the compiler are a million objects, and a collection looks at each of them.
    """
    yield
    if len(sys.modules) >= modules_passed_over[0] + MANY_MODULES:
        gc.collect()
        gc.freeze()
        modules_passed_over[0] = len(sys.modules)


@pytest.fixture(autouse=True)
def forgotten_traces() -> Iterator[None]:
    """Let PyTorch forget traced graphs, as its own tests do: 80 MB each of OSNet x1.0."""
    yield
    # What torch.testing._internal.jit_utils.clear_class_registry does; that needs expecttest.
    torch._C._jit_clear_class_registry()
    torch.jit._recursive.concrete_type_store = torch.jit._recursive.ConcreteTypeStore()
    torch.jit._state._clear_class_state()


@pytest.fixture(scope="module")
def short_networks() -> Iterator[None]:
    """The networks of few layers of ``tests/networks.py``, known by their names."""
    with small_networks():
        yield


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the Market-1501 layout: 8 training and 4 test identities on 2 cameras."""
    folder = tmp_path_factory.mktemp("images") / "tiny"
    settings = SyntheticSettings(
        train_identities=8,
        test_identities=4,
        cameras=2,
        images_per_camera=3,
        distractors=2,
        junk=1,
        height=64,
        width=32,
    )
    write_synthetic_market1501(folder, settings)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tiny_market: Path) -> ReidData:
    return read_market1501(tiny_market)


@pytest.fixture(scope="session")
def tiny_mot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences in the MOTChallenge layout: 5 persons, 10 seconds, 4 frames a second."""
    folder = tmp_path_factory.mktemp("sequences") / "tiny"
    write_synthetic_mot(
        folder, MotSettings(persons=5, frames=40, frame_rate=4, width=128, height=72)
    )
    return folder


@pytest.fixture(scope="session")
def randomise_normalisation() -> Callable[[nn.Module], None]:
    """Give normalisation layers statistics and weights that hide no mistake."""

    def randomise(model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
                    module.weight.uniform_(0.5, 1.5, generator=generator)
                    module.bias.normal_(generator=generator)
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                    module.running_mean.normal_(generator=generator)
                    module.running_var.uniform_(0.5, 2, generator=generator)

    return randomise


@pytest.fixture(scope="session")
def fastreid_file() -> Callable[..., Path]:
    """Write what FastReID saves of a ResNet-18 with a BNNeck, with further tensors by name."""

    def write(path: Path, **tensors: Tensor) -> Path:
        state = {
            f"heads.bottleneck.0.{name.removeprefix('bottleneck.')}"
            if name.startswith("bottleneck.")
            else f"backbone.{name}": value
            for name, value in built("resnet18_fastreid").state_dict().items()
            if not name.startswith("classifier.")
        }
        torch.save({"model": {**state, **tensors}}, path)
        return path

    return write

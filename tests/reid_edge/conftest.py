"""Images that cost nothing to make, and a model to look at them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from reid_edge.models.checkpoint import describe, save_checkpoint
from reid_edge.models.registry import build_model

Paint = Callable[..., Path]


@pytest.fixture(scope="session")
def paint() -> Paint:
    """Write an image of one colour, a few pixels large, and the folders above it."""

    def write(path: Path, shade: int = 0, size: tuple[int, int] = (4, 8)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (shade % 256, shade // 256 % 256, 128)).save(path)
        return path

    return write


@pytest.fixture
def market(tmp_path: Path, paint: Paint) -> Path:
    """A whole, tiny data set in the Market-1501 layout: no two images are the same."""
    names = {
        "bounding_box_train": ["0002_c1s1_000001_00.jpg", "0002_c2s1_000002_00.jpg",
                               "0007_c1s1_000003_00.jpg", "0007_c3s1_000004_00.jpg"],
        "query": ["0001_c1s1_000005_00.jpg", "0005_c2s1_000006_00.jpg"],
        "bounding_box_test": ["0001_c2s1_000007_00.jpg", "0005_c1s1_000008_00.jpg",
                              "0000_c1s1_000009_00.jpg", "-1_c1s1_000010_00.jpg"],
    }  # fmt: skip
    shade = 0
    for folder, files in names.items():
        for name in files:
            shade += 5
            paint(tmp_path / "market" / folder / name, shade, (4 + shade // 25, 8))
    return tmp_path / "market"


@pytest.fixture(scope="module")
def checkpoint_file(short_networks: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small, untrained model for images of 64 x 32; leave its folder alone."""
    torch.manual_seed(0)
    model = build_model("small_net", num_classes=4)
    path = tmp_path_factory.mktemp("models") / "small.pt"
    save_checkpoint(path, model, describe(model, "small_net", input_size=(64, 32)))
    return path

"""Decoding, sizes, colours, and files that are not whole."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from reid.data.pictures import load_picture, normalise
from reid.data.transforms import IMAGENET_DEVIATION, IMAGENET_MEAN
from reid.errors import DataError


def test_colours_and_size(tmp_path: Path) -> None:
    Image.new("RGB", (10, 20), (255, 0, 51)).save(tmp_path / "a.png")
    picture = load_picture(tmp_path / "a.png", 8, 4)
    assert picture.shape == (3, 8, 4)
    assert picture.dtype == torch.uint8
    assert picture[:, 0, 0].tolist() == [255, 0, 51]
    normal = normalise(picture, IMAGENET_MEAN, IMAGENET_DEVIATION)
    assert normal[0, 0, 0] == pytest.approx((1 - 0.485) / 0.229, abs=1e-5)
    assert normal[2, 0, 0] == pytest.approx((0.2 - 0.406) / 0.225, abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (10, 20)).save(tmp_path / f"a.{suffix}")
    assert load_picture(tmp_path / f"a.{suffix}", 20, 10).shape == (3, 20, 10)


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 128), 50).convert("RGB").save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not a picture")
    for name in ("cut.jpg", "text.jpg"):
        with pytest.raises(DataError, match=rf"{name}: cannot be decoded .*replace the file"):
            load_picture(tmp_path / name, 8, 8)
    with pytest.raises(DataError, match="no such picture"):
        load_picture(tmp_path / "none.jpg", 8, 8)
    with pytest.raises(DataError, match="is a folder; expected a picture"):
        load_picture(tmp_path, 8, 8)

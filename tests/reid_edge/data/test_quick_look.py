"""What a look at the ends of an image file tells, and what it leaves to decoding."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_edge.data.decoded_share import spacing
from reid_edge.data.decoding import check_image
from reid_edge.data.quick_look import quick_look


def encoded(mode: str = "RGB", kind: str = "JPEG", **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


JPEG, PNG = encoded(), encoded(kind="PNG")


@pytest.mark.parametrize(
    "content",
    [
        JPEG,
        encoded("L"),
        encoded(progressive=True),
        encoded(quality=95, subsampling=0, comment=b"a comment"),
        PNG,
        encoded("L", "PNG"),
        encoded("P", "PNG"),
        encoded("1", "PNG"),
        encoded("RGBA", "PNG"),
    ],
)
def test_size_and_hash_are_those_of_the_decoded_image(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    assert quick_look(path) == check_image(path)
    assert check_image(path).size == (40, 24)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xd8\xff\xd9", id="ends alone"),
        pytest.param(JPEG[:-20], id="cut off"),
        pytest.param(PNG[:-12], id="cut off PNG"),
        pytest.param(JPEG[:2] + JPEG[30:], id="damaged header"),
        pytest.param(JPEG.replace(b"\xff\xc0", b"\xff\xc3", 1), id="lossless JPEG"),
        pytest.param(JPEG.replace(b"\xff\xc0", b"\xff\xda", 1), id="pixels before the header"),
        pytest.param(b"text", id="text"),
        pytest.param(encoded("CMYK"), id="four colours"),
        pytest.param(encoded("I;16", "PNG"), id="16 bits"),
        pytest.param(encoded(exif=turned()), id="turned"),
        pytest.param(encoded(kind="PNG", exif=turned()), id="turned PNG"),
        pytest.param(encoded(kind="BMP"), id="another format"),
    ],
)
def test_what_only_decoding_can_tell(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    assert quick_look(path) is None


def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "fifo", tmp_path / "null\0"):
        assert quick_look(path) is None


def test_what_is_too_large_is_left_to_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "image.jpg").write_bytes(JPEG)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 40 * 24 - 1)
    assert quick_look(tmp_path / "image.jpg") is None


def test_large_sets_are_decoded_in_part() -> None:
    assert [spacing(count) for count in (0, 1, 200_000, 200_001, 1_000_000)] == [1, 1, 1, 5, 20]
    assert [spacing(1_000_000, count) for count in (1, 300_000, 10**9)] == [1_000_000, 4, 1]

"""Decoding, sizes, colours, and files that are not whole."""

import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, TiffImagePlugin, features
from torchvision.transforms.v2 import functional

from reid_edge.core.errors import DataError
from reid_edge.data.decoding import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_image,
    load_image,
    normalise_array,
    read_image,
)
from reid_edge.data.paths import IMAGE_SUFFIXES
from reid_edge.data.transforms import normalise


def test_colours_and_size(tmp_path: Path) -> None:
    Image.new("RGB", (10, 20), (255, 0, 51)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 8, 4)
    assert image.shape == (3, 8, 4)
    assert image.dtype == np.uint8
    assert image[:, 0, 0].tolist() == [255, 0, 51]
    normal = normalise_array(image, IMAGENET_MEAN, IMAGENET_STD)
    assert normal[0, 0, 0] == pytest.approx((1 - 0.485) / 0.229, abs=1e-5)
    assert normal[2, 0, 0] == pytest.approx((0.2 - 0.406) / 0.225, abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (10, 20)).save(tmp_path / f"a.{suffix}")
    assert load_image(tmp_path / f"a.{suffix}", 20, 10).shape == (3, 20, 10)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("L" if suffix == ".pgm" else "RGB", (10, 20)).save(path)
    assert load_image(path, 20, 10).shape == (3, 20, 10)


def test_no_program_is_started_on_postscript(tmp_path: Path) -> None:
    Image.new("RGB", (10, 20)).save(tmp_path / "a.jpg", format="EPS")
    with pytest.raises(DataError, match=r"a\.jpg: PostScript cannot be used; convert it to PNG"):
        load_image(tmp_path / "a.jpg", 20, 10)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    Image.effect_noise((64, 128), 50).convert("RGB").save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    for name in ("cut.jpg", "text.jpg"):
        with pytest.raises(DataError, match=rf"{name}: cannot be decoded .*replace the file"):
            load_image(tmp_path / name, 8, 8)
    with pytest.raises(DataError, match="no such image"):
        load_image(tmp_path / "none.jpg", 8, 8)
    with pytest.raises(DataError, match="is a folder; expected an image"):
        load_image(tmp_path, 8, 8)


def message_of(path: Path) -> str | None:
    """Return what is said about an image, or None if it can be read."""
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.avif", "a.webp", "a.jp2", "a.gif", "a.tga"])
def test_every_kind_of_damaged_image_is_one_line(tmp_path: Path, name: str) -> None:
    if not features.check("avif") and name.endswith("avif"):
        pytest.skip("this Pillow has no AVIF")
    noise().save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for cut in (0, 1, 20, len(whole) // 2, len(whole) - 5, *[len(whole)] * 20):
        content = bytearray(whole[:cut])
        if cut == len(whole):
            for place in generator.integers(0, cut, 5):
                content[place] = generator.integers(0, 256)
        (tmp_path / name).write_bytes(content)
        line = message_of(tmp_path / name)
        assert line is None or (line.startswith(f"{tmp_path / name}: ") and "\n" not in line)
        refused += line is not None
    assert refused >= 4


def test_what_no_other_format_raises(tmp_path: Path) -> None:
    noise().convert("P").save(tmp_path / "a.blp")
    content = bytearray((tmp_path / "a.blp").read_bytes())
    content[4:8] = b"\xff\xff\0\0"  # the kind of compression: a NotImplementedError
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded \(Unknown BLP compression"):
        read_image(tmp_path / "a.jpg")


def test_a_fifo_a_socket_and_a_device_are_no_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        server.bind("socket.jpg")
        for kind in ("FIFO", "device", "socket"):
            path = tmp_path / f"{kind.lower()}.jpg"
            with pytest.raises(DataError, match=rf"{path.name}: is a {kind}; expected a file$"):
                read_image(path)


def test_an_image_that_takes_gigabytes(tmp_path: Path) -> None:
    # 170 million pixels, of which Pillow only warns.
    header = struct.pack(">II5B", 17_000, 10_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", crc32(chunk))
    (tmp_path / "a.png").write_bytes(png + b"\0\0\0\0IDAT" + struct.pack(">I", crc32(b"IDAT")))
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match=r"a\.png: 17000 x 10000 pixels may be a decompression bom"),
    ):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"P6 0 0 255\n", b"GIF89a\0\0\0\0\0\0\0;", b""])
def test_an_image_without_pixels(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded \("):
        load_image(tmp_path / "a.jpg", 8, 4)


@pytest.mark.parametrize("error", [TypeError("bad operand"), KeyError(258), struct.error()])
def test_whatever_a_reader_of_pillow_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    Image.new("RGB", (4, 8)).save(tmp_path / "a.tif")
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", fail)
    with pytest.raises(DataError, match=r"a\.tif: cannot be decoded \("):
        load_image(tmp_path / "a.tif", 8, 8)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "I;16"), ("b.tif", "I;16"), ("c.pgm", "I"), ("d.tif", "F")]
)
def test_pixels_of_more_than_8_bits_are_refused(tmp_path: Path, name: str, mode: str) -> None:
    kind = np.float32 if mode == "F" else np.uint16
    wide = np.linspace(0, 1 if mode == "F" else 65535, 200).reshape(20, 10).astype(kind)
    Image.fromarray(wide).save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.mode == mode
    with pytest.raises(DataError) as caught:
        load_image(tmp_path / name, 8, 4)
    assert str(caught.value) == (
        f"{tmp_path / name}: 16-bit and float images cannot be used (mode {mode}); convert it to "
        "8 bits"
    )


def test_grey_is_kept_where_asked_for(tmp_path: Path) -> None:
    for mode, kept in (("L", "L"), ("RGB", "RGB"), ("P", "RGB")):
        Image.new(mode, (4, 8)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", keep_grey=True).mode == kept
        assert read_image(tmp_path / "a.png").mode == "RGB"


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 10, 3), dtype=np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_followed(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = noise()
    # What a camera does that is held so: the pixels as they lie, and how to turn them.
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    turned = upright.copy()
    turned.getexif()[0x0112] = undo
    lying = ImageOps.exif_transpose(turned)
    lying.save(tmp_path / "a.png", exif=exif)
    found = read_image(tmp_path / "a.png")
    assert np.array_equal(np.asarray(found), np.asarray(upright))
    expected = functional.pil_to_tensor(upright.resize((4, 8), Image.Resampling.BILINEAR))
    assert torch.equal(torch.from_numpy(load_image(tmp_path / "a.png", 8, 4)), expected)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0no TIFF header", b"Exif\0\0II*\0\xff\xff"])
def test_without_an_orientation_the_pixels_are_pillows_own(tmp_path: Path, exif: bytes) -> None:
    noise().save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        resized = image.convert("RGB").resize((4, 8), Image.Resampling.BILINEAR)
    loaded = torch.from_numpy(load_image(tmp_path / "a.jpg", 8, 4))
    assert torch.equal(loaded, functional.pil_to_tensor(resized))
    # The same layout in memory too, since some of PyTorch's kernels are chosen by it.
    assert loaded.stride() == functional.pil_to_tensor(resized).stride()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (IMAGENET_MEAN, IMAGENET_STD),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.0, 0.1, 1 / 3), (1.0, 1 / 255, 0.3)),
    ],
)
def test_normalised_arrays_equal_normalised_tensors_to_the_bit(
    mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    every_value = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, axis=0)
    batch = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 16), dtype=np.uint8)
    for images in (every_value, batch, batch.transpose(0, 1, 3, 2)):
        array = normalise_array(images, mean, std)
        tensor = normalise(torch.from_numpy(images), mean, std)
        assert array.dtype == np.float32
        assert np.array_equal(array, tensor.numpy())


def test_images_and_folders_are_read_without_torch() -> None:
    modules = "decoding", "paths", "schema", "augmentation"
    program = "import sys; " + "; ".join(f"import reid_edge.data.{name}" for name in modules)
    heavy = "[name for name in ('torch', 'scipy', 'h5py', 'kagglehub') if name in sys.modules]"
    found = subprocess.run(
        [sys.executable, "-c", f"{program}; print({heavy})"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == "[]"


def outcome(read: Callable[[Path], tuple[int, int]], path: Path) -> tuple[int, int] | str:
    try:
        return read(path)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "GIF", "CMYK", "16 bits"])
def test_a_check_accepts_and_refuses_what_reading_does(tmp_path: Path, kind: str) -> None:
    modes = {"GIF": "P", "CMYK": "CMYK", "16 bits": "I;16"}
    formats = {"progressive": "JPEG", "CMYK": "JPEG", "16 bits": "PNG"}
    image = Image.effect_noise((24, 40), 60).convert("RGB")
    image = Image.new(modes[kind], (24, 40)) if kind in modes else image
    path = tmp_path / "a.jpg"
    image.save(path, formats.get(kind, kind), progressive=kind == "progressive")
    content = path.read_bytes()
    step = max(1, len(content) // 40)
    for end in (*range(1, len(content), step), len(content) - 1, len(content)):
        path.write_bytes(content[:end])
        expected = outcome(lambda path: read_image(path).size, path)
        assert outcome(lambda path: check_image(path).size, path) == expected
    if kind == "16 bits":
        assert "16-bit and float images cannot be used" in str(expected)
    else:
        assert expected == (24, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_check_sees_the_size_that_is_read(tmp_path: Path, orientation: int) -> None:
    image = Image.new("RGB", (24, 40))
    image.getexif()[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=image.getexif())
    found = check_image(tmp_path / "a.jpg")
    assert found.size == read_image(tmp_path / "a.jpg").size
    assert found.digest == sha256((tmp_path / "a.jpg").read_bytes()).digest()


def test_a_check_names_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.jpg"):
        with pytest.raises(DataError) as expected:
            read_image(path)
        with pytest.raises(DataError, match=re.escape(str(expected.value))):
            check_image(path)

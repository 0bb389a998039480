"""From an image file to an array, with Pillow and NumPy alone."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from reid_edge.core.errors import DataError
from reid_edge.core.model_file import IMAGENET_MEAN as IMAGENET_MEAN
from reid_edge.core.model_file import IMAGENET_STD as IMAGENET_STD
from reid_edge.data.paths import check_regular

# The values of the EXIF orientation that exchange width and height.
TURNED_SIDEWAYS = (5, 6, 7, 8)


def read_image(path: Path, *, keep_grey: bool = False) -> Image.Image:
    """Decode an image whole and turn it the way its EXIF orientation says.

    Args:
        path: any format that Pillow reads but PostScript, with 8 bits a channel.
        keep_grey: leave an 8-bit greyscale image as it is.

    Returns:
        An image of mode "RGB", or "L" if it is to be kept.

    Raises:
        DataError: the file cannot be read whole, is no regular file, has 16-bit or float pixels,
            or more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` (89 million).
    """
    check_regular(path)
    with _errors_named(path), Image.open(path) as image:
        _check_kind(path, image)
        image.load()
        # Damaged EXIF is no reason to refuse pixels that are whole.
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return image.convert("L" if keep_grey and image.mode == "L" else "RGB")


@dataclass(frozen=True, slots=True)
class WholeImage:
    """An image file that `read_image` can read.

    Attributes:
        size: (width, height) in pixels, turned the way the EXIF orientation says.
        digest: SHA-256 of the file.
    """

    size: tuple[int, int]
    digest: bytes


def check_image(path: Path) -> WholeImage:
    """Check that an image can be decoded whole, and hash its file, which is read once.

    Of a JPEG all data is decoded, but only an eighth of the rows and columns of pixels is computed.

    Raises:
        DataError: as of `read_image`.
        OSError: the file cannot be read.
    """
    check_regular(path)
    with _errors_named(path):
        content = path.read_bytes()
        try:
            opened = Image.open(io.BytesIO(content))
        except UnidentifiedImageError as error:  # it would name the memory, not the file
            raise UnidentifiedImageError(f"cannot identify image file {str(path)!r}") from error
        with opened as image:
            _check_kind(path, image)
            width, height = image.size
            image.draft(None, (1, 1))
            image.load()
            with suppress(Exception):
                if image.getexif().get(ExifTags.Base.Orientation) in TURNED_SIDEWAYS:
                    width, height = height, width
            if image.mode not in ("RGB", "L"):
                image.convert("RGB")  # there are modes that cannot be converted
    return WholeImage((width, height), sha256(content).digest())


def _check_kind(path: Path, image: Image.Image) -> None:
    """Check what the header of an image says, before its pixels are decoded.

    Raises:
        DataError: it is too large, PostScript, or does not have 8 bits a channel.
    """
    # Pillow itself only warns of up to twice as many, and takes gigabytes for them.
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        raise DataError(
            f"{path}: {image.width} x {image.height} pixels may be a decompression bomb; "
            "scale it down"
        )
    # Whatever the file's name: Pillow would start Ghostscript, and PostScript is a program.
    if image.format == "EPS":
        raise DataError(f"{path}: PostScript cannot be used; convert it to PNG or JPEG")
    # Pillow would clip them to 0-255: a 16-bit image comes out white, a float one black.
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: 16-bit and float images cannot be used (mode {image.mode}); "
            "convert it to 8 bits"
        )


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Raise a DataError that names the file for whatever is raised while it is decoded."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected an image") from error
    # Each of Pillow's formats raises errors of its own on damaged files: AVIF a RuntimeError, BLP
    # a NotImplementedError, TIFF a TypeError, a KeyError or a struct.error.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"{path}: cannot be decoded ({reason}); replace the file or remove it"
        ) from error


def load_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Decode an image and resize it.

    Args:
        path: what `read_image` reads.
        height: rows of the result.
        width: columns of the result.

    Returns:
        uint8 RGB (3, height, width), resized with Pillow's bilinear filter as torchreid does. It is
        a view of an array (height, width, 3).

    Raises:
        DataError: the file cannot be read whole, or has 16-bit or float pixels.
    """
    return resize_image(read_image(path), height, width)


def resize_image(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize an RGB image with Pillow's bilinear filter, to what `load_image` returns."""
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    # A copy, since PyTorch warns of arrays that cannot be written to.
    return np.array(resized, dtype=np.uint8).transpose(2, 0, 1)


def normalise_array(
    images: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Map uint8 images to float32: divide by 255, subtract the mean, divide by the std.

    The result is equal to the bit to that of :func:`reid_edge.data.transforms.normalise`.

    Args:
        images: RGB (..., 3, H, W).
        mean: of each colour in [0, 1].
        std: of each colour in [0, 1].
    """
    shape = (3, 1, 1)
    # torchvision multiplies by 1 / 255 in float32; a division would round some values otherwise.
    scaled: NDArray[Any] = images.astype(np.float32) * np.float32(1 / 255)
    scaled -= np.asarray(mean, dtype=np.float32).reshape(shape)
    scaled /= np.asarray(std, dtype=np.float32).reshape(shape)
    return scaled

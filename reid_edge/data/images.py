"""From a file to a tensor."""

import struct
from contextlib import suppress
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional

from reid_edge.core.errors import DataError

# What Pillow raises on damaged files; the last three on those of TIFF, and on EXIF.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)


def read_image(path: Path, *, keep_grey: bool = False) -> Image.Image:
    """Decode an image whole and turn it the way its EXIF orientation says.

    Args:
        path: any format that Pillow reads but PostScript, with 8 bits a channel.
        keep_grey: leave an 8-bit greyscale image as it is.

    Returns:
        An image of mode "RGB", or "L" if it is to be kept.

    Raises:
        DataError: the file cannot be read whole, or has 16-bit or float pixels.
    """
    try:
        with Image.open(path) as image:
            _refuse_postscript(path, image.format)
            _refuse_wide_pixels(path, image.mode)
            image.load()
            _turn(image)
            return image.convert("L" if keep_grey and image.mode == "L" else "RGB")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected an image") from error
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded ({_reason(error)}); replace the file or remove it"
        ) from error


def load_image(path: Path, height: int, width: int) -> Tensor:
    """Decode an image and bring it to a size.

    Args:
        path: what `read_image` reads.
        height: rows of the result.
        width: columns of the result.

    Returns:
        uint8 RGB (3, height, width), resized with Pillow's bilinear filter as torchreid does.

    Raises:
        DataError: the file cannot be read whole, or has 16-bit or float pixels.
    """
    resized = read_image(path).resize((width, height), Image.Resampling.BILINEAR)
    tensor: Tensor = functional.pil_to_tensor(resized)
    return tensor


def _refuse_postscript(path: Path, kind: str | None) -> None:
    # Whatever the file's name: Pillow would start Ghostscript on it, and PostScript is a program.
    if kind == "EPS":
        raise DataError(f"{path}: PostScript cannot be used; convert it to PNG or JPEG")


def _refuse_wide_pixels(path: Path, mode: str) -> None:
    # Pillow would clip them to 0-255: a 16-bit image comes out white, a float one black.
    if mode.startswith(("I", "F")):
        raise DataError(
            f"{path}: 16-bit and float images cannot be used (mode {mode}); convert it to 8 bits"
        )


def _turn(image: Image.Image) -> None:
    # Damaged EXIF is no reason to refuse pixels that are whole.
    with suppress(*_UNREADABLE):
        ImageOps.exif_transpose(image, in_place=True)


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def normalise(
    images: Tensor,
    mean: tuple[float, float, float] | list[float],
    std: tuple[float, float, float] | list[float],
) -> Tensor:
    """Map uint8 (..., 3, H, W) to float32 with the given mean and std of RGB in [0, 1]."""
    scaled = functional.to_dtype(images, torch.float32, scale=True)
    normalised: Tensor = functional.normalize(scaled, list(mean), list(std))
    return normalised

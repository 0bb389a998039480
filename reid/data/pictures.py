"""From a file to a tensor."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from reid.errors import DataError


def load_picture(path: Path, height: int, width: int) -> Tensor:
    """Decode a picture and bring it to a size.

    Args:
        path: any format that Pillow reads.
        height: rows of the result.
        width: columns of the result.

    Returns:
        uint8 RGB (3, height, width), resized with Pillow's bilinear filter as torchreid does.

    Raises:
        DataError: the file cannot be read whole.
    """
    try:
        with Image.open(path) as picture:
            resized = picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such picture") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; expected a picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded ({_reason(error)}); replace the file or remove it"
        ) from error
    tensor: Tensor = functional.pil_to_tensor(resized)
    return tensor


def _reason(error: Exception) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def normalise(
    pictures: Tensor,
    mean: tuple[float, float, float] | list[float],
    deviation: tuple[float, float, float] | list[float],
) -> Tensor:
    """Map uint8 (..., 3, H, W) to float32 with the given mean and deviation of RGB in [0, 1]."""
    scaled = functional.to_dtype(pictures, torch.float32, scale=True)
    normalised: Tensor = functional.normalize(scaled, list(mean), list(deviation))
    return normalised

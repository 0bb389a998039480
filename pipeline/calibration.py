"""Which training images int8 ranges are chosen on, and which ones int8 models are judged on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.context import StageContext
from pipeline.settings.quantize import QuantizeStage
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import hash_file
from reid_edge.data.schema import Sample


@dataclass(frozen=True)
class CalibrationDraw:
    """Training images drawn evenly over the cameras, none of them twice.

    Attributes:
        calibration: for the ranges of int8.
        held_back: for comparing int8 models with the float model; empty where the training set
            has no more images than calibration takes.
    """

    calibration: tuple[Sample, ...]
    held_back: tuple[Sample, ...]


def draw_calibration(context: StageContext, count: int, held_back: int) -> CalibrationDraw:
    """Draw images for calibration and, beside them, images to judge by.

    How many are held back does not change which ones are calibrated on. An identity's only
    image is not held back, so that what is left to train on has the same classes.
    """
    drawn = context.training_sample(count + held_back, "calibrate")
    left = Counter(image.person for image in context.data.train)
    chosen = []
    for image in drawn[count:]:
        if left[image.person] > 1:
            left[image.person] -= 1
            chosen.append(image)
    return CalibrationDraw(tuple(drawn[:count]), tuple(chosen))


def check_held_back(settings: QuantizeStage, images: int, *, held_back: int) -> None:
    """Check that there is something to judge int8 models by where the settings ask for that.

    Args:
        settings: of the stage.
        images: how many there are to train on.
        held_back: how many of them calibration leaves.

    Raises:
        PipelineError: none, and quantization-aware training, a scan or a budget needs some.
    """
    asked = {
        "quantize.mode qat": settings.mode == "qat",
        "quantize.scan": settings.scan,
        "quantize.accuracy_budget": settings.accuracy_budget is not None,
    }
    if held_back or not any(asked.values()):
        return
    raise PipelineError(
        f"{next(key for key in asked if asked[key])}: no images are left to judge by, "
        f"calibration takes {min(settings.calibration_images, images)} of {images} training "
        "images; lower quantize.calibration_images, and leave quantize.held_back_images "
        "above 0"
    )


def describe_images(images: Sequence[Sample], root: Path) -> dict[str, Any]:
    """List images so that anyone can tell whether theirs are the same.

    Args:
        images: in the order in which they are used.
        root: of the data set; files below it are named relative to it.

    Returns:
        How many there are, on which camera how many, each file's SHA-256, and a digest: the
        SHA-256 of these hashes in hexadecimal, in order, each followed by a line feed.
    """
    hashes = [hash_file(image.path) for image in images]
    cameras = Counter(image.camera for image in images)
    return {
        "images": len(images),
        "cameras": {str(camera): count for camera, count in sorted(cameras.items())},
        "digest": sha256("".join(f"{line}\n" for line in hashes).encode()).hexdigest(),
        "files": [
            {"file": _name(image.path, root), "sha256": digest}
            for image, digest in zip(images, hashes, strict=True)
        ],
    }


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)

"""Draw the training images for int8 calibration and those that int8 models are judged on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.context import StageContext
from pipeline.stage_results import CalibrationImage, CalibrationImages
from pipeline.stages.quantize import QuantizeStage
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


def draw_calibration(context: StageContext[Any], count: int, held_back: int) -> CalibrationDraw:
    """Draw images for calibration and, beside them, images to judge by.

    The number of held-back images does not change the calibration images. The only image of an
    identity is not held back, so the remaining training images have the same classes.
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
    """Check that images are held back if the settings need them to judge int8 models.

    Args:
        settings: of the stage.
        images: number of training images.
        held_back: number of training images that are held back.

    Raises:
        PipelineError: none are held back, but quantization-aware training, a scan or a budget
            needs some.
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


def describe_images(images: Sequence[Sample], root: Path) -> CalibrationImages:
    """List images with their hashes, so that others can check that theirs are the same.

    Args:
        images: in the order in which they are used.
        root: of the data set; files below it are named relative to it.
    """
    hashes = [hash_file(image.path) for image in images]
    cameras = Counter(image.camera for image in images)
    names = (
        image.path.relative_to(root) if image.path.is_relative_to(root) else image.path
        for image in images
    )
    return CalibrationImages(
        images=len(images),
        cameras={str(camera): count for camera, count in sorted(cameras.items())},
        digest=sha256("".join(f"{line}\n" for line in hashes).encode()).hexdigest(),
        files=tuple(
            CalibrationImage(file=str(name), sha256=digest)
            for name, digest in zip(names, hashes, strict=True)
        ),
    )

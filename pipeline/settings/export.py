"""Section ``export``: which files, and what they have to keep to."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.settings.base import Settings
from quantize.exporters import EXPORTERS
from quantize.exporters.onnx_int8 import Calibration
from reid_edge.core.exporter import in_order

# The stage quantize makes this file; the stage export only compares it with the model.
INT8_OF_QUANTIZE = "torchscript_int8"


def _known(name: str) -> str:
    EXPORTERS.check(name)
    return name


FileName = Annotated[str, AfterValidator(_known)]


class ParitySettings(Settings):
    """What an exported file has to keep to, measured on query and gallery."""

    float_cosine: float = Field(
        0.999, ge=-1, le=1, description="lowest cosine to the model of any image, float files"
    )
    int8_cosine: float = Field(
        0.98, ge=-1, le=1, description="mean cosine to the model over the images, int8 files"
    )
    int8_lowest_cosine: float = Field(
        0.9, ge=-1, le=1, description="lowest cosine to the model of any image, int8 files"
    )
    loss: float = Field(
        0.015, ge=0, le=1, description="mAP (or, with faces, EER) that a file may lose"
    )
    spread: float = Field(
        0.5, ge=0, le=1, description="least variance of the embeddings, as a share of the model's"
    )
    batch_difference: float = Field(
        1e-4, ge=0, description="difference that batches of 1, 2 and 7 may make to an embedding"
    )


class ExportStage(Settings):
    """Stage ``export``: files of the latest float model, each checked against it."""

    files: tuple[FileName, ...] = Field(
        ("torchscript", "torchscript_int8", "onnx", "onnx_int8"),
        min_length=1,
        description="torchscript, torchscript_int8 (that of quantize is checked), onnx, "
        "onnx_int8, openvino, openvino_int8, executorch, executorch_int8, torchreid, boxmot, "
        "boxmot_onnx, or a format of an installed package",
    )
    calibration_images: int = Field(
        256, ge=1, description="training images for the ranges of int8 files, over the cameras"
    )
    calibration: Calibration = Field(
        "percentile",
        description="how ONNX Runtime finds activation ranges: percentile, minmax or entropy",
    )
    percentile: float = Field(
        99.999, gt=50, le=100, description="share of values within the range, in per cent"
    )
    reduce_range: bool = Field(
        False, description="onnx_int8 with 7-bit weights, for x86 processors without VNNI"
    )
    options: dict[FileName, dict[str, Any]] | None = Field(
        None, description="settings of file formats of installed packages, by format; none: without"
    )
    parity: ParitySettings = ParitySettings()

    @model_validator(mode="after")
    def _what_files_are_made_of(self) -> Self:
        in_order(EXPORTERS.load(name) for name in EXPORTERS if name in self.files)
        return self

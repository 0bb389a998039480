"""Section ``quantize``: int8, static or quantization-aware."""

from typing import Literal

from pydantic import Field

from pipeline.settings.base import Settings
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings


class QatSettings(TrainingSettings):
    """Quantization-aware training, from the ranges that static int8 found."""

    epochs: int = Field(2, ge=1, description="epochs; the best one is kept")
    learning_rate: float = Field(1e-4, gt=0, description="peak rate")
    warmup_epochs: float = Field(0.2, ge=0, description="epochs of linear warm-up")
    precision: Literal["32-true"] = Field("32-true", description="rounding needs single precision")
    head_learning_rate: None = Field(None, description="not here: all layers learn at one rate")
    frozen_epochs: int = Field(0, ge=0, le=0, description="not here: all layers learn")
    ema_decay: float = Field(
        0.0, ge=0, le=0, description="not here: every epoch's own weights are judged"
    )
    patience: int = Field(0, ge=0, le=0, description="not here: the best of all epochs is kept")
    losses: LossSettings = LossSettings(cross_entropy=0.0, triplet=0.0)
    distillation: DistillationSettings = DistillationSettings(hints=0.0)
    observer_epochs: int = Field(
        0, ge=0, description="epochs in which activation ranges still follow the images"
    )
    batchnorm_epochs: int = Field(
        0, ge=0, description="epochs in which BatchNorm statistics are still learned"
    )


class QuantizeStage(Settings):
    """Stage ``quantize``: int8 into TorchScript."""

    mode: Literal["static", "qat"] = Field(
        "static",
        description="static: ranges from images; qat: quantization-aware training from there, "
        "both files, int8.pt being the better one",
    )

    engine: Literal["qnnpack", "x86", "onednn"] = Field(
        "qnnpack", description="what will run the file: qnnpack on ARM, x86 or onednn on PCs"
    )
    per_channel: bool = Field(True, description="weight scales by output channel")
    observer: Literal["histogram", "minmax", "moving_average"] = Field(
        "histogram",
        description="how activation ranges are found: histogram, minmax or moving_average",
    )
    bias_correction: bool = Field(
        True, description="take back the mean error that rounding leaves in every channel"
    )
    calibration_images: int = Field(
        256,
        ge=1,
        description="training images to choose ranges on, evenly over the cameras; 256 to 1024 "
        "are enough",
    )
    held_back_images: int = Field(
        256,
        ge=0,
        description="other training images, on which int8 is compared with the float model; "
        "quantization-aware training does without them",
    )
    float_layers: tuple[str, ...] = Field((), description="layers to leave in float")
    scan: bool = Field(
        False, description="measure what int8 costs layer by layer, on images held back"
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        description="largest mean 1 - cosine to the float model on images held back; the layers "
        "that a scan finds dearest are left in float until it is met; none: without",
    )
    max_float_layers: int = Field(
        8, ge=0, description="how many layers the accuracy budget may leave in float"
    )
    qat: QatSettings = QatSettings()

"""Stage ``quantize``: int8, static or trained, saved as TorchScript, loaded back, evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from pipeline.settings.section import Settings
from pipeline.stage import Stage, Training
from reid_edge.core.errors import PipelineError
from reid_edge.training.settings import DistillationSettings, LossSettings, TrainingSettings

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.stage_results import QuantizeResult
    from reid_edge.data.schema import ReidData

# Quantization-aware training.
QAT = "quantize.qat"


class QatSettings(TrainingSettings):
    """Quantization-aware training, from the ranges that static int8 found."""

    epochs: int = Field(2, ge=1, description="epochs; the best one is kept")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    warmup_epochs: float = Field(0.2, ge=0, description="epochs of linear warm-up")
    precision: Literal["32-true"] = Field("32-true", description="rounding needs single precision")
    head_learning_rate: None = Field(None, description="not available: all layers have one rate")
    frozen_epochs: int = Field(0, ge=0, le=0, description="not available: all layers learn")
    ema_decay: float = Field(
        0.0, ge=0, le=0, description="not available: the weights of each epoch are measured"
    )
    patience: int = Field(0, ge=0, le=0, description="not available: all epochs are run")
    losses: LossSettings = LossSettings(cross_entropy=0.0, triplet=0.0)
    distillation: DistillationSettings = DistillationSettings(hints=0.0)
    observer_epochs: int = Field(
        0, ge=0, description="epochs in which activation ranges are still updated"
    )
    batchnorm_epochs: int = Field(
        0, ge=0, description="epochs in which BatchNorm statistics are still updated"
    )


class QuantizeStage(Settings):
    """Stage ``quantize``: int8 into TorchScript."""

    mode: Literal["static", "qat"] = Field(
        "static",
        description="static: ranges from training images; qat: quantization-aware training after "
        "that. qat writes both files, and int8.pt is the better one",
    )
    engine: Literal["qnnpack", "x86", "onednn"] = Field(
        "qnnpack", description="engine that runs the file: qnnpack on ARM, x86 or onednn on PCs"
    )
    per_channel: bool = Field(True, description="a weight scale for each output channel")
    observer: Literal["histogram", "minmax", "moving_average"] = Field(
        "histogram",
        description="how activation ranges are found: histogram, minmax or moving_average",
    )
    bias_correction: bool = Field(
        True, description="correct the mean error of every channel that rounding causes"
    )
    calibration_images: int = Field(
        256,
        ge=1,
        description="training images that activation ranges are chosen on, evenly over the "
        "cameras; 256 to 1024 are enough",
    )
    held_back_images: int = Field(
        256,
        ge=0,
        description="other training images, on which int8 is compared with the float model; "
        "quantization-aware training does not use them",
    )
    float_layers: tuple[str, ...] = Field((), description="layers to leave in float")
    scan: bool = Field(
        False, description="measure the error of int8 layer by layer, on held_back_images"
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        description="largest mean 1 - cosine to the float model on held_back_images; layers are "
        "left in float until it is met, those first that save most error in a scan; none: no limit",
    )
    max_float_layers: int = Field(
        8, ge=0, description="largest number of layers that accuracy_budget leaves in float"
    )
    qat: QatSettings = QatSettings()


def run(context: StageContext[QuantizeStage]) -> QuantizeResult:
    """Write ``int8.pt``, ``metrics.json`` and ``quantization.json``."""
    from pipeline.stages.int8_files import make_int8

    return make_int8(context)


def _check(config: Config) -> None:
    from pipeline.preflight import full_width_layers
    from quantize.call_sites import check_layer_names
    from reid_edge.core.int8_engine import check_engine

    settings = config.of(QUANTIZE)
    check_engine(settings.engine)
    check_layer_names(full_width_layers(config), settings.float_layers)


def _check_data(config: Config, data: ReidData) -> None:
    """Check that int8 can be judged, and that the held back images leave enough to train on."""
    from pipeline.calibration import check_held_back
    from reid_edge.data.schema import count_persons

    settings, images = config.of(QUANTIZE), len(data.train)
    left = max(images - settings.calibration_images, 0)
    held_back = min(settings.held_back_images, left)
    check_held_back(settings, images, held_back=held_back)
    # An identity's only image is not held back.
    trained_on = max(images - held_back, count_persons(data.train))
    batch = settings.qat.identities_per_batch * settings.qat.images_per_identity
    if settings.mode == "qat" and trained_on < batch:
        raise PipelineError(
            f"{QAT}: a batch takes {batch} images, and of {images} training images {held_back} are "
            "held back to judge int8 by; lower quantize.held_back_images or choose smaller batches"
        )


QUANTIZE: Stage[QuantizeStage] = Stage(
    name="quantize",
    summary="make the model int8, as TorchScript for QNNPACK",
    settings=QuantizeStage,
    run=run,
    result="pipeline.stage_results:QuantizeResult",
    default=True,
    shows_accuracy=True,
    trainings=lambda config: (
        # It runs on one device.
        [Training(QAT, settings.qat, settings.qat.distillation, devices=1)]
        if (settings := config.of(QUANTIZE)).mode == "qat"
        else []
    ),
    check=_check,
    check_data=_check_data,
    report="pipeline.report.int8_section:INT8_SECTION",
)

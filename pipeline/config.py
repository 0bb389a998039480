"""Typed settings: one YAML a purpose, ``extends``, ``key.path=value`` on the command line."""

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    model_validator,
)

from prune.criteria import Criterion
from prune.widths import Schedule
from reid.training.settings import (
    DistillationSettings,
    LossSettings,
    MetricFormat,
    TrainingSettings,
)


def _expand(value: object) -> object:
    return Path(value).expanduser().absolute() if isinstance(value, str) else value


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


PLAN_SUFFIX = ".json"
FilePath = Annotated[Path, BeforeValidator(_expand), PlainSerializer(str)]

StageName = Literal[
    "train", "transfer", "prune", "finetune", "resize", "quantize", "export", "benchmark"
]  # fmt: skip
STAGES: tuple[StageName, ...] = get_args(StageName)
FileName = Literal[
    "torchscript", "torchscript_int8", "onnx", "onnx_int8", "openvino", "openvino_int8",
    "executorch", "executorch_int8", "torchreid", "boxmot", "boxmot_onnx",
]  # fmt: skip
# Files that are made of another file.
MADE_OF: dict[FileName, FileName] = {
    "onnx_int8": "onnx", "openvino": "onnx", "openvino_int8": "onnx_int8",
}  # fmt: skip
DEFAULT_STAGES: tuple[StageName, ...] = ("train", "prune", "finetune", "quantize")


class Settings(BaseModel):
    """Base of all sections: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SyntheticPictures(Settings):
    """The pictures that the program draws itself when ``data.root`` is not given."""

    train_identities: int = Field(96, ge=2, description="identities to train on")
    test_identities: int = Field(64, ge=2, description="identities in query and gallery")
    cameras: int = Field(4, ge=2, description="cameras")
    pictures_per_camera: int = Field(4, ge=2, description="pictures of an identity on a camera")
    seed: int = Field(0, ge=0, description="all pictures are a function of it")


class TrainingSource(Settings):
    """One more data set to train on."""

    format: str = Field("market1501", description="how it is laid out, as data.format")
    root: FilePath = Field(description="its folder")


class DataSettings(Settings):
    """Pictures and how they are read."""

    root: FilePath | None = Field(
        None, description="folder of the data set; none: synthetic pedestrians"
    )
    format: str = Field(
        "market1501",
        description="how it is laid out: market1501, dukemtmc-reid, cuhk03-detected, "
        "cuhk03-labelled, msmt17, csv, folders, ...",
    )
    also_train_on: tuple[TrainingSource, ...] = Field(
        (), description="more data sets ({format, root}) whose training pictures are added"
    )
    test_share: float = Field(
        0.2, gt=0, lt=1, description="identities set apart where a set has no query and gallery"
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="training identities set apart to choose the best epoch of every training by; "
        "0: all are trained on, and the last epoch counts",
    )
    synthetic: SyntheticPictures = SyntheticPictures()
    height: int = Field(256, ge=16, description="input rows")
    width: int = Field(128, ge=16, description="input columns")
    workers: int = Field(2, ge=0, description="processes that load pictures")
    evaluation_batch: int = Field(64, ge=1, description="pictures embedded at once")


class ModelSettings(Settings):
    """The full-width model."""

    architecture: str = Field("osnet_x1_0", description="architecture before pruning")
    embedding_dim: int = Field(512, ge=8, description="size of the embedding")


class EvaluationSettings(Settings):
    """How models are compared."""

    task: Literal["person", "face"] = Field(
        "person",
        description="which measures the tables show: mAP and rank-1 of persons; equal error rate, "
        "true accepts and rank-1 of faces. Both are always measured",
    )
    distance: Literal["cosine", "euclidean"] = Field(
        "cosine", description="between embeddings; torchreid's default is euclidean"
    )


class TrainStage(TrainingSettings):
    """Stage ``train``: the full-width model."""

    pretrained: FilePath | None = Field(
        None, description="weights to start from; only the classifier may be missing"
    )


Share = Annotated[float, Field(gt=0, le=1)]
Budget = Annotated[float, Field(gt=0)]


class WidthBudget(Settings):
    """The most that the compact model may cost; one of the three is given."""

    macs: Budget | None = None
    parameters: Budget | None = None
    latency: Share | None = None
    widths: Literal["by_loss", "uniform"] = "by_loss"

    @model_validator(mode="after")
    def _names_one(self) -> "WidthBudget":
        if sum(value is not None for value in (self.macs, self.parameters, self.latency)) != 1:
            raise ValueError("a budget names one of macs, parameters and latency")
        return self


# Pydantic puts the tag of a union's member among the keys of an error; this tells it from a key.
TAG_MARK = "("
NAME, SHARE, BUDGET = "(name)", "(share)", "(budget)"


def _kind_of_target(value: object) -> str:
    if isinstance(value, bool | str):
        return NAME
    return SHARE if isinstance(value, int | float) else BUDGET


def _expand_plan(value: str) -> str:
    return str(_expand(value)) if value.endswith(PLAN_SUFFIX) else value


Target = Annotated[
    Annotated[str, AfterValidator(_expand_plan), Tag(NAME)]
    | Annotated[Share, Tag(SHARE)]
    | Annotated[WidthBudget, Tag(BUDGET)],
    Discriminator(_kind_of_target),
]


class PruneTuning(TrainingSettings):
    """The short fine-tune after each cut."""

    epochs: int = Field(3, ge=0, description="epochs after each cut")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak rate, anew after each cut")
    losses: LossSettings = LossSettings(cross_entropy=0.1, triplet=0.0)


def _not_one(count: int) -> int:
    if count == 1:
        raise ValueError("one picture has no statistics; give at least 2, or 0 to do without")
    return count


class CutSettings(Settings):
    """What ranks channels, how a cut is mended and tuned; the stages that cut share it."""

    criterion: Criterion = Field(
        "l2",
        description="what ranks channels: l2, l1, fpgm, taylor, batchnorm_scale, reconstruction or "
        "random",
    )
    criterion_pictures: int = Field(
        128,
        ge=2,
        description="training pictures for a criterion that looks at them: taylor, reconstruction",
    )
    reconstruction_pictures: int = Field(
        128, ge=0, description="training pictures for least squares after surgery; 0: without"
    )
    recalibration_pictures: Annotated[int, AfterValidator(_not_one)] = Field(
        512, ge=0, description="training pictures for BatchNorm statistics; 0: without"
    )
    teacher: bool = Field(True, description="tune under the full-width model's eye")
    distillation: DistillationSettings = DistillationSettings()
    tuning: TrainingSettings


class TransferTuning(TrainingSettings):
    """The training after the one cut: long, at a low rate."""

    epochs: int = Field(30, ge=0, description="epochs after the cut")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak rate; low, the weights are taken")


class TransferStage(CutSettings):
    """Stage ``transfer``: the most important channels go into the target at once."""

    target: str = Field("osnet_x0_5", description="architecture whose widths to end at")
    teacher: bool = Field(False, description="train under the full-width model's eye")
    tuning: TransferTuning = TransferTuning()


class PruneStage(CutSettings):
    """Stage ``prune``: from full width to the target's widths in K iterations."""

    target: Target = Field(
        "osnet_x0_5",
        description="where to end: an architecture (`osnet_x0_5`), a share of the channels "
        "(`0.6`), a budget (`{macs: 0.3}`, or `parameters`, or `latency`; up to 1 it is a share of "
        "the full-width model's; with `widths: by_loss` or `uniform`), or a plan "
        "(`plan.json`)",
    )
    ratios: dict[str, Share] = Field(
        {},
        description="shares of channels to keep by pattern of layer names (`{conv2.*: 0.7}`), "
        "where the target is a share",
    )
    untouched: tuple[str, ...] = Field(
        (), description="patterns of layers never to cut, where the target is a share or a budget"
    )
    multiple: int = Field(
        1, ge=1, description="what widths are multiples of, where the target leaves them free"
    )
    iterations: int = Field(3, ge=1, description="K, how many cuts")
    schedule: Schedule = Field(
        "linear", description="equal cuts (linear) or equal shares of what is left (geometric)"
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="largest loss of mAP in an iteration (0.02: two points), on the identities "
        "that data.validation_share sets apart, or without it on query and gallery; an iteration "
        "that loses more is tuned longer, and if that fails the run goes back to the widths before "
        "it",
    )
    extra_tuning: int = Field(
        1, ge=0, description="how often an iteration beyond accuracy_budget is tuned once more"
    )
    tuning: PruneTuning = PruneTuning()


class FinetuneStage(TrainingSettings):
    """Stage ``finetune``: the compact model, longest."""

    epochs: int = Field(16, ge=0, description="epochs")
    learning_rate: float = Field(1.5e-3, gt=0, description="peak rate")
    losses: LossSettings = LossSettings(cross_entropy=0.3, triplet=0.3)
    teacher: bool = Field(True, description="imitate the full-width model's embeddings")
    distillation: DistillationSettings = DistillationSettings()


class ResizeStage(TrainingSettings):
    """Stage ``resize``: the model as it is, at another input size."""

    height: int = Field(128, ge=16, description="input rows from here on")
    width: int = Field(64, ge=16, description="input columns from here on")
    epochs: int = Field(8, ge=0, description="epochs at the new size")
    learning_rate: float = Field(3.5e-4, gt=0, description="peak rate")


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
        0, ge=0, description="epochs in which activation ranges still follow the pictures"
    )
    batchnorm_epochs: int = Field(
        0, ge=0, description="epochs in which BatchNorm statistics are still learned"
    )


class QuantizeStage(Settings):
    """Stage ``quantize``: int8 into TorchScript."""

    mode: Literal["static", "qat"] = Field(
        "static",
        description="static: ranges from pictures; qat: quantization-aware training from there, "
        "both files, int8.pt being the better one",
    )

    engine: Literal["qnnpack", "x86", "onednn"] = Field(
        "qnnpack", description="what will run the file: qnnpack on ARM, x86 or onednn on PCs"
    )
    per_channel: bool = Field(True, description="weight scales by output channel")
    observer: Literal["histogram", "minmax", "moving_average"] = Field(
        "histogram", description="how activation ranges are found"
    )
    bias_correction: bool = Field(
        True, description="take back the mean error that rounding leaves in every channel"
    )
    calibration_pictures: int = Field(
        256,
        ge=1,
        description="training pictures to choose ranges on, evenly over the cameras; 256 to 1024 "
        "are enough",
    )
    held_back_pictures: int = Field(
        256,
        ge=0,
        description="other training pictures, on which int8 is compared with the float model; "
        "quantization-aware training does without them",
    )
    float_layers: tuple[str, ...] = Field((), description="layers to leave in float")
    scan: bool = Field(
        False, description="measure what int8 costs layer by layer, on pictures held back"
    )
    accuracy_budget: float | None = Field(
        None,
        gt=0,
        description="largest mean 1 - cosine to the float model on pictures held back; the layers "
        "that a scan finds dearest are left in float until it is met; none: without",
    )
    max_float_layers: int = Field(
        8, ge=0, description="how many layers the accuracy budget may leave in float"
    )
    qat: QatSettings = QatSettings()


class ParitySettings(Settings):
    """What an exported file has to keep to, measured on query and gallery."""

    float_cosine: float = Field(
        0.999, ge=-1, le=1, description="lowest cosine to the model of any picture, float files"
    )
    int8_cosine: float = Field(
        0.98, ge=-1, le=1, description="mean cosine to the model over the pictures, int8 files"
    )
    int8_lowest_cosine: float = Field(
        0.9, ge=-1, le=1, description="lowest cosine to the model of any picture, int8 files"
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
        "boxmot_onnx",
    )
    calibration_pictures: int = Field(
        256, ge=1, description="training pictures for the ranges of int8 files, over the cameras"
    )
    calibration: Literal["percentile", "minmax", "entropy"] = Field(
        "percentile", description="how ONNX Runtime finds activation ranges"
    )
    percentile: float = Field(
        99.999, gt=50, le=100, description="share of values within the range, in per cent"
    )
    reduce_range: bool = Field(
        False, description="onnx_int8 with 7-bit weights, for x86 processors without VNNI"
    )
    parity: ParitySettings = ParitySettings()

    @model_validator(mode="after")
    def _what_files_are_made_of(self) -> Self:
        for name, source in MADE_OF.items():
            if name in self.files and source not in self.files:
                raise ValueError(f"{name} is made of {source}: put {source} in files as well")
        return self


class BenchmarkStage(Settings):
    """Stage ``benchmark``: every model file of the run, side by side."""

    rounds: int = Field(30, ge=2, description="timed calls of each file, in turn")
    batches: tuple[int, ...] = Field((1, 8), min_length=1, description="pictures in a call")
    threads: tuple[int, ...] | None = Field(
        None, min_length=1, description="threads of a call; none: 1, and all that there are"
    )


class SearchMachine(Settings):
    """A machine that evaluates candidates, over SSH."""

    address: str = Field(description="user@host or user@host:port")
    key_file: FilePath = Field(description="private key for it, without a passphrase")
    python: str = Field(description="Python with this project's requirements, as a path there")


class SearchSettings(Settings):
    """``python -m pipeline.search``: the widths of ``prune`` searched under a limit."""

    trials: int = Field(32, ge=1, description="candidates to score")
    macs: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="limit of MACs, as a share of the full-width model's; none: those of "
        "prune.target",
    )
    multiple: int = Field(1, ge=1, description="widths are multiples of it, where there is room")
    untouched: tuple[str, ...] = Field((), description="patterns of layers to leave alone")
    variables: dict[str, tuple[str, ...]] | None = Field(
        None,
        min_length=1,
        description="patterns of the layers that share a proportion, by name; none: one a stage, "
        "and for OSNet one for the insides of all blocks",
    )
    iterations: int = Field(1, ge=1, description="cuts in which a candidate is made")
    reconstruction_pictures: int = Field(
        96, ge=1, description="training pictures for least squares after each cut"
    )
    held_back: int = Field(
        40, ge=2, description="training identities to score on; the rest serves reconstruction"
    )
    concurrency: int = Field(1, ge=1, description="candidates that are scored at the same time")
    machines: tuple[SearchMachine, ...] = Field(
        (), description="where ({address, key_file, python}), over SSH; none: here"
    )
    callback: str = Field(
        "127.0.0.1", description="address on which the machines reach the SSH tunnel to us"
    )


class LatencySettings(Settings):
    """The closing measurement."""

    rounds: int = Field(30, ge=2, description="timed calls of each file, in turn")
    threads: int = Field(1, ge=1, description="threads of each call")


class Config(Settings):
    """Everything a run is made of."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="folder below runs/"
    )
    seed: int = Field(0, ge=0, description="every draw is a function of it")
    stages: tuple[StageName, ...] = Field(
        DEFAULT_STAGES, description=f"stages to run, in this order; there are {', '.join(STAGES)}"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    devices: int = Field(
        1,
        ge=1,
        description="GPUs, or processes on the CPU, to train on at once (DDP); each takes batches "
        "of its own, so that a step sees so many times P x K pictures; quantize.qat takes one",
    )
    log: Annotated[tuple[MetricFormat, ...], BeforeValidator(_split)] = Field(
        (),
        description="how to write the losses, rates and mAP of every epoch into the folder of the "
        "training: csv (metrics.csv), tensorboard, or both (csv,tensorboard)",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; none: all cores")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    train: TrainStage = TrainStage()
    transfer: TransferStage = TransferStage()
    prune: PruneStage = PruneStage()
    finetune: FinetuneStage = FinetuneStage()
    resize: ResizeStage = ResizeStage()
    quantize: QuantizeStage = QuantizeStage()
    export: ExportStage = ExportStage()
    benchmark: BenchmarkStage = BenchmarkStage()
    latency: LatencySettings = LatencySettings()
    search: SearchSettings = SearchSettings()

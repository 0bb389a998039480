"""The results that stages return and write to ``stage.json``.

Every file with results has a ``schema_version``. A file of another version is not read: its stage
counts as missing.
"""

from __future__ import annotations

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, SerializeAsAny

from quantize.measurements import (
    Agreement,
    BudgetStep,
    Machine,
    Parity,
    QuantizationReport,
    Sensitivity,
    Timing,
)
from reid_edge.metrics.results import Distance, Evaluation

SCHEMA_VERSION: Literal[2] = 2


class Result(BaseModel):
    """Base of all results: unknown keys are errors, values do not change."""

    # Built when they are first used: a wrong setting is refused without them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    def to_json(self) -> bytes:
        """Return the content of a file."""
        return (self.model_dump_json(indent=2) + "\n").encode()


# The measure that stands in the place of mAP where there are no identities, as tables name it:
# share of the teacher's ten nearest images that are among the model's ten nearest.
LIKE_TEACHER = "top 10 as teacher"


def headline(metrics: Evaluation, distance: Distance) -> dict[str, float]:
    """Return mAP and CMC 1/5/10 by a distance, and EER where it was measured.

    Without identities these are the measures beside the teacher, by cosine similarity; and with
    tracks the mAP of a track's other half.
    """
    verification, free = metrics.verification, metrics.label_free
    equal_error = {"EER": verification.equal_error_rate} if verification else {}
    if free is not None:
        return {
            LIKE_TEACHER: free.nearest_overlap,
            "same nearest": free.same_nearest,
            "rank correlation": free.rank_correlation,
            **({"cosine": free.mean_cosine} if free.mean_cosine is not None else {}),
            **({"track mAP": free.tracks.mean_average_precision} if free.tracks else {}),
            **equal_error,
        }
    chosen = metrics.ranking[distance]
    return {
        "mAP": chosen.mean_average_precision,
        **{f"rank{rank}": chosen.cumulative_matching[rank] for rank in (1, 5, 10)},
        **equal_error,
    }


def main_measure(metrics: Evaluation, task: str) -> str:
    """Return the measure by which models are compared: "mAP", "EER" of faces, or `LIKE_TEACHER`.

    Args:
        metrics: of a model.
        task: "person" or "face".
    """
    if metrics.label_free is not None:
        return LIKE_TEACHER
    return "EER" if task == "face" else "mAP"


def main_value(metrics: Evaluation, task: str, distance: Distance) -> float | None:
    """Return the value of `main_measure`; None where it was not measured."""
    return headline(metrics, distance).get(main_measure(metrics, task))


class ModelResult(Result):
    """The model that a stage made.

    Attributes:
        name: name of its architecture, with " int8" if it is quantized.
        file: path of its file below the run's folder.
        parameters: number of parameters.
        macs: multiply-accumulates for one image.
        bytes: size of the file.
        metrics: accuracy on query and gallery.
        engine: int8 engine of PyTorch that runs the file; None for a checkpoint.
    """

    name: str
    file: str
    parameters: int
    macs: int
    bytes: int
    metrics: Evaluation
    engine: Literal["qnnpack", "x86", "onednn"] | None = None


class FileResult(Result):
    """A model file that a stage made or checked, beside the model that it was made of.

    Attributes:
        name: name of the file.
        bytes: size of the file with all its parts; 0 if it could not be written.
        int8: whether the limits of int8 files apply.
        problems: limits that the file exceeds; empty if the file may be used.
        path: path below the run's folder; None if this stage did not write the file.
        timed: whether the stage ``benchmark`` measures it.
        exporter: name of the exporter that wrote it.
        meant_for: machine that the file is made for.
        parity: comparison of its embeddings with the model's; None if it could not be compared.
        loss: loss of accuracy, see ``pipeline.judging.accuracy_loss``.
        metrics: accuracy of the file on query and gallery.
        threshold: cosine similarity that is stored beside the file.
        batch: images in a call; None: any number.
        note: what else is to be said of the file, such as why it was not checked.
        latency_ms: milliseconds of a call with ``batch`` images, or one, on one thread; None if it
            was not measured.
    """

    name: str
    bytes: int
    int8: bool
    problems: tuple[str, ...] = ()
    path: str | None = None
    timed: bool = False
    exporter: str = ""
    meant_for: str = ""
    parity: Parity | None = None
    loss: float | None = None
    metrics: Evaluation | None = None
    threshold: float | None = None
    batch: int | None = None
    note: str = ""
    latency_ms: float | None = None


class StageResult(Result):
    """What a stage returns.

    Attributes:
        model: the model that the stage made, or None.
        files: files for other programs that the stage made or checked.
        note: a line for the report.
    """

    model: ModelResult | None = None
    files: tuple[FileResult, ...] = ()
    note: str = ""


class ExportedModel(Result):
    """What the command ``export`` made files of, and which images it judged them by.

    Attributes:
        file: the model's file, as it was given.
        sha256: SHA-256 of it.
        description: what it is.
        input_size: (height, width).
        dimensions: of its embedding.
        images: the folder.
        calibration_images: number of images that int8 files are calibrated on.
        calibration_digest: SHA-256 of their hashes in hexadecimal, each followed by a line feed.
        judging_images: number of the other images, that files are judged by.
    """

    file: str
    sha256: str
    description: str
    input_size: tuple[int, int]
    dimensions: int
    images: str
    calibration_images: int
    calibration_digest: str
    judging_images: int


class DimensionCost(Result):
    """What a smaller embedding costs, on images that it was not fitted on.

    Attributes:
        dimensions: of the embedding; the whole one is the first of a table.
        same_nearest: share of the images whose nearest image is that of the whole embedding.
        nearest_overlap: share of the ten nearest images that are the same, the mean.
        mean_average_precision: by cosine, on labelled images; None without them.
    """

    dimensions: int
    same_nearest: float
    nearest_overlap: float
    mean_average_precision: float | None = None


class Parities(Result):
    """The files of an export beside their model (``parity.json``).

    Attributes:
        files: those that were made or checked, in order.
        model: what the command ``export`` made them of; None in a run.
        dimensions: what smaller embeddings cost, where one was asked for.
        left_over: files of earlier exports in the same folder, that this one has not made again.
        schema_version: version of this layout.
    """

    files: tuple[FileResult, ...]
    model: ExportedModel | None = None
    dimensions: tuple[DimensionCost, ...] = ()
    left_over: tuple[str, ...] = ()
    schema_version: Literal[2] = SCHEMA_VERSION


class CalibrationImage(Result):
    """An image that int8 ranges were chosen on.

    Attributes:
        file: path of the image, relative to the data set if it is in its folder.
        sha256: SHA-256 of its content.
    """

    file: str
    sha256: str


class CalibrationImages(Result):
    """The images that int8 ranges were chosen on (``calibration.json``).

    Attributes:
        images: number of images.
        cameras: number of images by camera.
        digest: SHA-256 of the images' hashes in hexadecimal, in order, each followed by a line
            feed.
        files: the images, in the order in which they are used.
        schema_version: version of this layout.
    """

    images: int
    cameras: dict[str, int]
    digest: str
    files: tuple[CalibrationImage, ...]
    schema_version: Literal[2] = SCHEMA_VERSION


class Int8Variant(Result):
    """One of the int8 files of the stage ``quantize``.

    Attributes:
        file: name of the file, in the stage's folder.
        metrics: accuracy on query and gallery.
        agreement: comparison with the float model on the images held back, or None.
    """

    file: str
    metrics: Evaluation
    agreement: Agreement | None


class Budget(Result):
    """The steps towards an accuracy budget.

    Attributes:
        mean_cosine_error: the budget, the largest mean 1 - cosine to the float model.
        steps: int8 models with more and more layers in float.
    """

    mean_cosine_error: float
    steps: tuple[BudgetStep, ...]


class QatTraining(Result):
    """The course of a quantization-aware training.

    Attributes:
        mean_cosine_error_by_epoch: mean 1 - cosine to the float model on the images held back,
            for each epoch; None if the epoch diverged.
        best_epoch: number of the best epoch, from 1; None if all diverged.
    """

    mean_cosine_error_by_epoch: tuple[float | None, ...]
    best_epoch: int | None


class Quantization(Result):
    """The result of quantization (``quantization.json``).

    Attributes:
        report: what is int8, what is not, and why.
        summary: the report in one line.
        engine: int8 engine of PyTorch that the files are made for.
        mode: "static" or "qat".
        variants: the int8 files by name, "static" and "qat".
        kept: name of the variant that is ``int8.pt``.
        decision: why this variant was kept, in one line; empty with static int8 alone.
        calibration_digest: ``digest`` of ``calibration.json``.
        scan: error of int8 layer by layer, if it was measured.
        budget: the steps towards the accuracy budget, if there is one.
        training: the quantization-aware training, if there was one.
        schema_version: version of this layout.
    """

    report: QuantizationReport
    summary: str
    engine: str
    mode: str
    variants: dict[str, Int8Variant]
    kept: str
    decision: str
    calibration_digest: str
    scan: Sensitivity | None = None
    budget: Budget | None = None
    training: QatTraining | None = None
    schema_version: Literal[2] = SCHEMA_VERSION


class QuantizeResult(StageResult):
    """What the stage ``quantize`` returns."""

    quantization: Quantization


class BenchmarkRow(Result):
    """A model file and what was measured of it.

    Attributes:
        name: ``stage/file``, and the engine if it is not the file's own.
        kind: kind of file.
        engine: int8 engine of PyTorch that runs the file; None for other files.
        meant_for: machine that the file is made for.
        input_size: (height, width).
        bytes: size of the file.
        metrics: accuracy on query and gallery.
        peak_bytes: largest memory at batch 1 on one thread, beyond that of the interpreter and its
            libraries; None where the system does not tell.
        timings: one for each batch and number of threads.
    """

    name: str
    kind: str
    engine: str | None
    meant_for: str
    input_size: tuple[int, int]
    bytes: int
    metrics: Evaluation
    peak_bytes: int | None
    timings: tuple[Timing, ...]


class Benchmark(Result):
    """Latency, memory, size and accuracy of every model file (``benchmark.json``).

    Attributes:
        machine: the machine that it was measured on.
        rounds: number of timed calls of each file, in turn.
        rows: one for each file; the others are compared with the first.
        schema_version: version of this layout.
    """

    machine: Machine
    rounds: int
    rows: tuple[BenchmarkRow, ...]
    schema_version: Literal[2] = SCHEMA_VERSION


class BenchmarkResult(StageResult):
    """What the stage ``benchmark`` returns."""

    benchmark: Benchmark


class ModelLatency(Result):
    """Latency of the model of a stage at batch 1.

    Attributes:
        stage: name of the stage that made the model.
        engine: int8 engine of PyTorch, if it is not the file's own.
        median_ms: median over the rounds, in milliseconds.
        spread_ms: difference between the quartiles, in milliseconds.
        ratio: latency as a multiple of the first model's.
    """

    stage: str
    engine: str | None = None
    median_ms: float
    spread_ms: float
    ratio: float


class Latencies(Result):
    """The closing measurement of a run (``latency.json``).

    Attributes:
        machine: the machine that it was measured on.
        outputs: hashes of the files of the stages that were timed, by stage.
        rounds: number of timed calls of each model, in turn.
        threads: threads of each call.
        models: the timed models, in the order of the stages.
        schema_version: version of this layout.
    """

    machine: Machine
    outputs: dict[str, dict[str, str]]
    rounds: int
    threads: int
    models: tuple[ModelLatency, ...]
    schema_version: Literal[2] = SCHEMA_VERSION

    def of(self, stage: str) -> ModelLatency | None:
        """Return the latency of a stage's model on its own engine, if it was measured."""
        return next((m for m in self.models if m.stage == stage and m.engine is None), None)


R = TypeVar("R", bound=StageResult)


class Hardware(Result):
    """What a stage ran on.

    Attributes:
        device: "cpu" or "cuda".
        processor: its name; of a GPU, that of the GPU.
        threads: of PyTorch on the CPU.
    """

    device: str
    processor: str
    threads: int


class StageRecord(Result):
    """The record of a finished stage (``stage.json``); it is written last.

    Attributes:
        stage: name of the stage.
        fingerprint: hash of ``settings`` and ``inputs``, see
            :func:`pipeline.dependencies.fingerprint`.
        settings: the settings that the stage depends on.
        inputs: hashes of what it was made from, by name: images, parent checkpoint, teacher.
        outputs: hashes of the model files that it made, of ``kept.json`` and of ``plan.json``, by
            file name.
        results: hashes of its other JSON files, which no later stage reads, by file name.
        versions: versions of Python and of the libraries that results depend on.
        seed: seed of all random draws.
        seconds: wall time; if ``resumed``, since the last interruption.
        input_size: (height, width) of its model.
        result: what the stage returned.
        resumed: whether the stage was interrupted and resumed.
        ranks: how many processes trained together; another number makes no stage stale, and other
            bits.
        hardware: what it ran on, with ``device``, ``processor`` and ``threads``; estimates of time
            compare it. ``null`` in records of earlier versions.
        schema_version: version of this layout.
    """

    stage: str
    fingerprint: str
    settings: dict[str, JsonValue]
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]
    seed: int
    seconds: float
    input_size: tuple[int, int]
    result: SerializeAsAny[StageResult] = StageResult()
    resumed: bool = False
    ranks: int = 1
    hardware: Hardware | None = None
    results: dict[str, str] = {}
    schema_version: Literal[2] = SCHEMA_VERSION

    def result_as(self, kind: type[R]) -> R:
        """Return the result of a stage whose kind of result is known."""
        assert isinstance(self.result, kind), f"{self.stage} returns {kind.__name__}"
        return self.result

"""Stage ``export``: write the latest float model for other programs and check each file."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.run_dir import INT8_FILE
from pipeline.settings.section import Settings, registered
from pipeline.stage import Stage, StageWork, judged_images
from quantize.exporters import EXPORTERS
from quantize.exporters.onnx_float import OPSETS
from quantize.exporters.onnx_int8 import Calibration
from reid_edge.core.errors import ModelError, PipelineError
from reid_edge.core.exporter import in_order
from reid_edge.core.io import write_bytes

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.stage_results import StageResult
    from reid_edge.data.schema import ReidData

PARITY_FILE = "parity.json"
# The stage whose int8 file is checked too.
INT8_STAGE = "quantize"

logger = logging.getLogger(__name__)


# The stage quantize makes this file; the stage export only compares it with the model.
INT8_OF_QUANTIZE = "torchscript_int8"
# Exporters whose settings are keys of the section itself.
IN_SECTION = ("onnx_int8",)


Batch = Annotated[int, Field(ge=1, le=1024)]
FileName = Annotated[str, AfterValidator(lambda name: registered(name, EXPORTERS))]


class ParitySettings(Settings):
    """What an exported file has to keep to, measured on query and gallery."""

    float_cosine: float = Field(
        0.999, ge=-1, le=1, description="float files: lowest cosine of any image to the model"
    )
    int8_cosine: float = Field(
        0.98, ge=-1, le=1, description="int8 files: mean cosine of the images to the model"
    )
    int8_lowest_cosine: float = Field(
        0.9, ge=-1, le=1, description="int8 files: lowest cosine of any image to the model"
    )
    loss: float = Field(
        0.015,
        ge=0,
        le=1,
        description="largest loss of mAP (with faces, of EER; without identities, of the share of "
        "the full-width model's ten nearest images that are found)",
    )
    spread: float = Field(
        0.5,
        ge=0,
        le=1,
        description="smallest variance of the embeddings, as a share of the model's",
    )
    batch_difference: float = Field(
        1e-4, ge=0, description="largest difference of an embedding between batches of 1, 2 and 7"
    )


class ExportStage(Settings):
    """Stage ``export``: files of the latest float model, each checked against it."""

    files: tuple[FileName, ...] = Field(
        ("torchscript", "torchscript_int8", "onnx", "onnx_int8"),
        min_length=1,
        description=f"file formats: {', '.join(EXPORTERS)}; {INT8_OF_QUANTIZE} is the file of the "
        "stage quantize, which is checked",
    )
    calibration_images: int = Field(
        256, ge=1, description="training images that calibrate int8 files, evenly over the cameras"
    )
    calibration: Calibration = Field(
        "percentile",
        description="how ONNX Runtime finds activation ranges: percentile, minmax or entropy",
    )
    percentile: float = Field(
        99.999,
        gt=50,
        le=100,
        description="calibration percentile: percentage of the values inside the range",
    )
    reduce_range: bool = Field(
        False, description="7-bit weights in onnx_int8, for x86 processors without VNNI"
    )
    batch: tuple[Batch, ...] = Field(
        (), description="images in a call, with a file for each number; none: any number"
    )
    input: Literal["float", "uint8-rgb", "uint8-bgr"] = Field(
        "float",
        description="what files take: float, normalised images, or pixels of 0 to 255 (uint8-rgb, "
        "uint8-bgr), which they normalise themselves",
    )
    dims: int | None = Field(
        None, ge=1, description="dimensions of the embedding, by a PCA; none: the model's"
    )
    whiten: bool = Field(
        False, description="with dims: give all directions of the embedding the same variance"
    )
    opset: int | None = Field(
        None,
        ge=OPSETS[0],
        le=OPSETS[-1],
        description="operator set of ONNX files; none: the oldest that has all layers",
    )
    options: dict[FileName, dict[str, Any]] | None = Field(
        None, description="settings of exporters of installed packages, by name; none: defaults"
    )
    parity: ParitySettings = ParitySettings()

    @model_validator(mode="after")
    def _what_files_are_made_of(self) -> Self:
        in_order(EXPORTERS.load(name) for name in EXPORTERS if name in self.files)
        return self

    @model_validator(mode="after")
    def _whitening_goes_with_dimensions(self) -> Self:
        if self.whiten and self.dims is None:
            raise ValueError("whiten goes with dims alone; give export.dims")
        return self


def run(context: StageContext[ExportStage]) -> StageResult:
    """Write the files, compare each with the model, and write ``parity.json``.

    Raises:
        PipelineError: a file does not agree with the model; it is kept as ``rejected-...``.
    """
    from pipeline.dependencies import PARENT_INPUT
    from pipeline.export_dimensions import smaller_of_run
    from pipeline.exporters import check_model, export_source, exporters, settings_of
    from pipeline.file_parity import write_files, write_for_trackers
    from pipeline.judging import check_file
    from pipeline.labelled_parity import embed_labelled, make_judge
    from pipeline.stage_results import FileResult, Parities, StageResult
    from reid_edge.inference.embedder import load_embedder

    assert context.parent is not None, "export was planned without a parent"
    settings, smaller = context.settings, None
    model, info = context.load_parent()
    check_model(settings.files, info)
    embedder = load_embedder(
        context.parent, architecture=info.architecture, input_size=context.input_size
    )
    reference = embed_labelled(embedder, context)
    if settings.dims is not None:
        smaller = smaller_of_run(embedder, reference, context, settings.dims)
        reference = smaller.reference
    judge, metrics = make_judge(reference, context, info.architecture)
    verification = metrics.verification
    threshold = None if verification is None else verification.equal_error_threshold
    projection = None if smaller is None else smaller.projection
    rows = write_files(
        exporters(settings.files),
        export_source(context, model, info, threshold, embedder.space, projection),
        judge,
        context.folder,
        batches=sorted(set(settings.batch)),
        settings_of=lambda exporter: settings_of(exporter, settings),
        path_prefix=f"{context.stage}/",
    )
    write_for_trackers(context.folder, rows)
    if INT8_OF_QUANTIZE in settings.files:
        # The file of the stage ``quantize`` is compared with the model, and not copied.
        name = f"{INT8_STAGE}/{INT8_FILE}"
        path, quantized = context.folder.parent / name, context.made.get(INT8_STAGE)
        if quantized is None:
            logger.info("export: no torchscript_int8 to check, the stage quantize has made none")
        elif quantized.inputs.get(PARENT_INPUT) != context.parent_hash:
            logger.info(
                "export: %s was made from another model than these files; not checked", path
            )
        else:
            row = FileResult(name=name, bytes=0, int8=True, exporter=INT8_OF_QUANTIZE)
            rows.append(check_file(path, judge, row))
    parities = Parities(files=tuple(rows), dimensions=() if smaller is None else smaller.costs)
    write_bytes(context.folder / PARITY_FILE, parities.to_json())
    failed = [row for row in rows if row.problems]
    if failed:
        first, others = failed[0], len(failed) - 1
        where = f"; it is {context.folder.parent / first.path}" if first.path else ""
        more = f"; {others} more failed" if others else ""
        raise PipelineError(
            f"export: {first.name} does not agree with the model: {', '.join(first.problems)}"
            f"{where}{more}; see {context.folder / PARITY_FILE}, or set export.parity"
        )
    return StageResult(files=tuple(rows))


def _check(config: Config) -> None:
    """Check packages, options, and that other programs can build the model, by the settings."""
    from pipeline.exporters import (
        check_form,
        check_model,
        check_options,
        check_packages,
        check_published_widths,
    )
    from pipeline.plan import cutting_stage
    from reid_edge.models.checkpoint_info import CheckpointInfo

    settings, cutting = config.of(EXPORT), cutting_stage(config)
    check_packages(settings.files)
    check_options(settings)
    check_form(settings)
    architecture: str | None = config.model.architecture
    if cutting is not None:
        architecture = config.declared[cutting].architecture(config)
    if architecture is None:
        check_published_widths(settings.files, f"{cutting}.target")
        return
    # The model may be a narrower one of the same family, cut by a stage that does not run now.
    info = CheckpointInfo(
        architecture,
        num_classes=1,
        embedding_dim=config.model.embedding_dim,
        input_size=(config.data.height, config.data.width),
    )
    try:
        check_model(settings.files, info)
    except ModelError as error:
        raise PipelineError(f"export.files: {error}") from error


def _work(config: Config, data: ReidData) -> StageWork:
    """Return the images that are embedded: by the model, and by each file."""
    files = 1 + len(config.of(EXPORT).files)
    return StageWork(trained=0, evaluated=files * judged_images(data))


EXPORT: Stage[ExportStage] = Stage(
    name="export",
    summary="write files for other programs, each checked against the model",
    settings=ExportStage,
    run=run,
    shows_accuracy=True,
    inputs=lambda upstream: {
        f"{INT8_STAGE}/{INT8_FILE}": made.outputs.get(INT8_FILE, "to be made")
        for stage, made in upstream.made.items()
        # An int8 file of another model is neither checked nor needed.
        if stage == INT8_STAGE and made.parent == upstream.parent_hash
    },
    work=_work,
    check=_check,
    report="pipeline.report.files_section:FILES_SECTION",
)

"""Stage ``quantize``: int8, static or trained, saved as TorchScript, loaded back, evaluated."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from pipeline.calibration import (
    CalibrationDraw,
    check_held_back,
    describe_images,
    draw_calibration,
)
from pipeline.context import StageContext
from pipeline.evaluation import evaluate, headline
from pipeline.exporters import model_metadata
from pipeline.run_dir import INT8_FILE, METRICS
from pipeline.stages.float_layers import choose_float_layers, warn_of_ignored
from pipeline.stages.qat_training import train_qat
from quantize.agreement import Agreement, Reference
from quantize.calibrate import Scheme, calibrate
from quantize.count import QuantizationReport, quantization_report
from quantize.exporters.torchscript import save_torchscript
from quantize.static import convert_calibrated
from reid_edge.core.cost import model_cost
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.core.io import write_bytes, write_json
from reid_edge.core.model_file import ModelMetadata
from reid_edge.inference.backends.torchscript_runtime import load_torchscript

REPORT = "quantization.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Int8File:
    """An int8 model that was written, read back and measured.

    Attributes:
        name: of the file, in the stage's folder.
        report: what of it is int8.
        metrics: on query and gallery.
        agreement: with the float model on images held back, if there are any.
    """

    name: str
    report: QuantizationReport
    metrics: dict[str, Any]
    agreement: Agreement | None


def run(context: StageContext) -> dict[str, Any]:
    """Write ``int8.pt``, ``metrics.json`` and ``quantization.json``; return the table's row.

    With quantization-aware training, ``int8_static.pt`` and ``int8_qat.pt`` besides; ``int8.pt``
    is the one that is nearer to the float model on the images held back.
    """
    settings = context.config.quantize
    model, info = context.load_parent()
    drawn = draw_calibration(context, settings.calibration_images, settings.held_back_images)
    images = describe_images(drawn.calibration, context.data.root)
    reference = _reference(context, model, drawn)
    metadata = replace(model_metadata(context, info), calibration_digest=images["digest"])
    scheme = Scheme(settings.engine, settings.per_channel, settings.observer, settings.float_layers)
    calibrated = calibrate(model, context.batches(drawn.calibration), scheme)
    choice = choose_float_layers(context, model, calibrated, reference)
    correct = settings.bias_correction
    models = {"static": convert_calibrated(choice.calibrated, bias_correction=correct)}
    told: dict[str, Any] = {}
    if settings.mode == "qat":
        assert reference is not None
        trained, told = train_qat(context, model, choice.calibrated, reference, drawn.held_back)
        if trained is not None:
            models["qat"] = convert_calibrated(trained, bias_correction=False)
    in_float = choice.calibrated.scheme.float_layers
    files = {
        variant: _write(context, model, int8, variant, metadata, reference, in_float)
        for variant, int8 in models.items()
    }
    kept = _choose(files)
    chosen = files[kept]
    warn_of_ignored(settings.float_layers, chosen.report)
    path = context.folder / INT8_FILE
    if chosen.name != INT8_FILE:
        write_bytes(path, (context.folder / chosen.name).read_bytes())
    comparison = _compare(context, files, kept)
    quantization = {
        **chosen.report.to_dict(),
        "engine": settings.engine,
        "mode": settings.mode,
        "calibration_digest": images["digest"],
        "summary": _summary(chosen.report),
        **comparison,
        **choice.told,
    }
    write_json(context.folder / METRICS, chosen.metrics)
    write_json(context.folder / REPORT, {**quantization, "training": told, "calibration": images})
    cost = model_cost(model, context.example())
    return {
        "model": f"{info.architecture} int8",
        "file": f"{context.stage}/{INT8_FILE}",
        "parameters": cost.parameters,
        "macs": cost.macs,
        "bytes": path.stat().st_size,
        "metrics": chosen.metrics,
        "quantization": quantization,
    }


def _reference(context: StageContext, model: nn.Module, drawn: CalibrationDraw) -> Reference | None:
    settings, images = context.config.quantize, len(context.data.train)
    check_held_back(settings, images, held_back=len(drawn.held_back))
    return Reference(model, context.batches(drawn.held_back)) if drawn.held_back else None


def _write(
    context: StageContext,
    model: nn.Module,
    int8: fx.GraphModule,
    variant: str,
    metadata: ModelMetadata,
    reference: Reference | None,
    float_layers: tuple[str, ...],
) -> Int8File:
    """Write a file, and measure what is read back from it."""
    settings = context.config.quantize
    name = INT8_FILE if settings.mode == "static" else f"int8_{variant}.pt"
    path = context.folder / name
    strings = replace(metadata, variant=variant).to_strings()
    save_torchscript(int8, context.example(), path, strings, engine=settings.engine)
    report = quantization_report(model, int8, float_layers=float_layers)
    logger.info("quantize: %s: %s", name, _summary(report))
    loaded, _ = load_torchscript(path, settings.engine)
    with quantized_engine(settings.engine):
        metrics = evaluate(loaded, context, device="cpu")
    agreement = reference.agreement(loaded, settings.engine) if reference else None
    return Int8File(name, report, metrics, agreement)


def _choose(files: dict[str, Int8File]) -> str:
    """Return the variant whose file is nearest to the float model; static where they are even."""
    errors = {
        variant: file.agreement.mean_cosine_error
        for variant, file in files.items()
        if file.agreement is not None
    }
    return min(errors, key=errors.__getitem__) if errors else "static"


def _compare(context: StageContext, files: dict[str, Int8File], kept: str) -> dict[str, Any]:
    variants = {
        variant: {
            "file": file.name,
            **headline(file.metrics, context.config),
            "agreement": file.agreement.to_dict() if file.agreement else None,
        }
        for variant, file in files.items()
    }
    verdict = ""
    if context.config.quantize.mode == "qat":
        verdict = _verdict(variants, kept)
        logger.log(logging.INFO if kept == "qat" else logging.WARNING, "quantize: %s", verdict)
    return {"variants": variants, "kept": kept, "verdict": verdict}


def _verdict(variants: dict[str, Any], kept: str) -> str:
    if "qat" not in variants:
        return (
            "quantization-aware training diverged: static int8 is kept as int8.pt; lower "
            "quantize.qat.learning_rate"
        )
    trained, static = variants["qat"], variants["static"]
    better = "better" if kept == "qat" else "not better"
    return (
        f"quantization-aware training is {better} than static int8 on "
        f"{static['agreement']['images']} training images held back (mean 1 - cosine to the "
        f"float model {trained['agreement']['mean_cosine_error']:.5f} against "
        f"{static['agreement']['mean_cosine_error']:.5f}); mAP {trained['mAP']:.1%} against "
        f"{static['mAP']:.1%}; int8.pt is {variants[kept]['file']}"
    )


def _summary(report: QuantizationReport) -> str:
    left = ", ".join(f"{layer.name} ({layer.reason})" for layer in report.left_in_float)
    return (
        f"{report.int8_convolutions} of {report.convolutions} convolutions and "
        f"{report.int8_linear_layers} of {report.linear_layers} linear layers are int8; "
        f"left in float: {left or 'none'}"
    )

"""Stage ``quantize``: post-training static int8, saved as TorchScript, loaded back, evaluated."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from pipeline.calibration import describe_pictures, draw_calibration
from pipeline.context import StageContext
from pipeline.evaluation import evaluate
from pipeline.run_dir import METRICS
from prune.layers import model_cost
from quantize.count import QuantizationReport, quantization_report
from quantize.engine import quantized_engine
from quantize.static import quantize_static
from quantize.torchscript import load_torchscript, save_torchscript
from reid.data.records import Picture
from reid.files import write_json
from reid.models.checkpoint import CheckpointInfo

INT8_FILE = "int8.pt"
REPORT = "quantization.json"

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Write ``int8.pt``, ``metrics.json`` and ``quantization.json``; return the table's row."""
    settings = context.config.quantize
    model, info = context.load_parent()
    drawn = draw_calibration(context, settings.calibration_pictures, 0)
    calibration = describe_pictures(drawn.calibration, context.data.root)
    report = _quantize(context, model, info, drawn.calibration, calibration["digest"])
    path = context.folder / INT8_FILE
    int8, _ = load_torchscript(path, settings.engine)
    with quantized_engine(settings.engine):
        metrics = evaluate(int8, context, device="cpu")
    write_json(context.folder / METRICS, metrics)
    write_json(context.folder / REPORT, {**report.to_dict(), "calibration": calibration})
    cost = model_cost(model, context.example())
    return {
        "model": f"{info.architecture} int8",
        "input_size": list(context.input_size),
        "file": f"{context.stage}/{INT8_FILE}",
        "parameters": cost.parameters,
        "macs": cost.macs,
        "bytes": path.stat().st_size,
        "metrics": metrics,
        "quantization": {
            **report.to_dict(),
            "engine": settings.engine,
            "calibration_digest": calibration["digest"],
            "summary": _summary(report),
        },
    }


def _quantize(
    context: StageContext,
    model: nn.Module,
    info: CheckpointInfo,
    calibration: Sequence[Picture],
    digest: str,
) -> QuantizationReport:
    settings = context.config.quantize
    quantized = quantize_static(
        model,
        context.batches(calibration),
        engine=settings.engine,
        per_channel=settings.per_channel,
        observer=settings.observer,
        float_layers=settings.float_layers,
        bias_correction=settings.bias_correction,
    )
    metadata = {
        "architecture": info.architecture,
        "input_size": json.dumps(info.input_size),
        "colour_order": info.colour_order,
        "mean": json.dumps(info.mean),
        "deviation": json.dumps(info.deviation),
        "parent_hash": context.parent_hash,
        "calibration_digest": digest,
    }
    save_torchscript(
        quantized, context.example(), context.folder / INT8_FILE, metadata, engine=settings.engine
    )
    report = quantization_report(model, quantized, float_layers=settings.float_layers)
    logger.info("quantize: %s", _summary(report))
    return report


def _summary(report: QuantizationReport) -> str:
    left = ", ".join(f"{layer.name} ({layer.reason})" for layer in report.left_in_float)
    return (
        f"{report.int8_convolutions} of {report.convolutions} convolutions and "
        f"{report.int8_linear_layers} of {report.linear_layers} linear layers are int8; "
        f"left in float: {left or 'none'}"
    )

"""Stage ``benchmark``: latency, throughput, memory, size of every model file, side by side."""

import logging
from dataclasses import asdict, replace
from typing import Any

from pipeline.context import StageContext
from pipeline.evaluation import evaluate, headline
from pipeline.model_files import ModelFile, model_files
from quantize.latency import Measurement, Model, measure_side_by_side
from quantize.machine import machine_description, usable_cores
from reid_edge.core.int8_engine import quantized_engine
from reid_edge.core.io import write_json
from reid_edge.inference.backends.torchscript_runtime import load_torchscript

BENCHMARK_FILE = "benchmark.json"

logger = logging.getLogger(__name__)


def run(context: StageContext) -> dict[str, Any]:
    """Measure every file of the run beside the first and write ``benchmark.json``."""
    settings = context.config.benchmark
    files = model_files(context.folder.parent, context.made)
    measured = measure_side_by_side(
        {file.name: Model(file.opener(), (3, *file.input_size)) for file in files},
        batches=settings.batches,
        threads=settings.threads or sorted({1, usable_cores()}),
        rounds=settings.rounds,
        progress=lambda line: logger.info("benchmark: %s", line),
    )
    content = {
        "machine": machine_description(),
        "rounds": settings.rounds,
        "rows": [_row(context, file, measured[file.name]) for file in files],
    }
    write_json(context.folder / BENCHMARK_FILE, content)
    return {"benchmark": content}


def _row(context: StageContext, file: ModelFile, measured: Measurement) -> dict[str, Any]:
    return {
        "name": file.name,
        "kind": file.backend.name,
        "engine": file.engine,
        "meant_for": file.meant_for,
        "input_size": list(file.input_size),
        "bytes": file.bytes,
        **headline(file.metrics or _evaluate(context, file), context.config),
        **asdict(measured),
    }


def _evaluate(context: StageContext, file: ModelFile) -> dict[str, Any]:
    """Measure the accuracy of an int8 file on another engine than its own.

    Engines round differently, and on some processors sums overflow in one of them.
    """
    assert file.engine is not None, "all other files were measured by the stage that made them"
    logger.info("benchmark: accuracy of %s", file.name)
    model, _ = load_torchscript(file.path, file.engine)
    with quantized_engine(file.engine):
        return evaluate(model, replace(context, input_size=file.input_size), device="cpu")

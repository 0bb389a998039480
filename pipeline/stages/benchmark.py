"""Stage ``benchmark``: latency, throughput, memory and size of every model file."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.settings.section import Settings
from pipeline.stage import Stage
from reid_edge.core.io import write_bytes

if TYPE_CHECKING:
    from pipeline.context import StageContext
    from pipeline.model_files import ModelFile
    from pipeline.stage_results import BenchmarkResult
    from reid_edge.metrics.results import Evaluation

BENCHMARK_FILE = "benchmark.json"

logger = logging.getLogger(__name__)


Count = Annotated[int, Field(ge=1)]


class BenchmarkStage(Settings):
    """Stage ``benchmark``: every model file of the run, side by side."""

    rounds: int = Field(30, ge=2, description="timed calls of each file, in turn")
    batches: tuple[Count, ...] = Field((1, 8), min_length=1, description="images in a call")
    threads: tuple[Count, ...] | None = Field(
        None, min_length=1, description="threads of a call; none: 1, and all cores of the process"
    )


def run(context: StageContext[BenchmarkStage]) -> BenchmarkResult:
    """Measure every file of the run, compare it with the first, write ``benchmark.json``."""
    from pipeline.model_files import model_files
    from pipeline.stage_results import Benchmark, BenchmarkResult, BenchmarkRow
    from quantize.machine import machine_description, usable_cores
    from quantize.timing import Model, measure_side_by_side

    settings = context.settings
    files = model_files(context.folder.parent, context.made)
    measured = measure_side_by_side(
        {
            file.name: Model(file.open, (3, *file.input_size), file.backend.packages)
            for file in files
        },
        batches=settings.batches,
        threads=settings.threads or sorted({1, usable_cores()}),
        rounds=settings.rounds,
        progress=lambda line: logger.info("benchmark: %s", line),
    )
    rows = [
        BenchmarkRow(
            name=file.name,
            kind=file.backend.name,
            engine=file.engine,
            meant_for=file.meant_for,
            input_size=file.input_size,
            bytes=file.bytes,
            metrics=file.metrics or _evaluate(context, file),
            peak_bytes=measured[file.name].peak_bytes,
            timings=measured[file.name].timings,
        )
        for file in files
    ]
    benchmark = Benchmark(machine=machine_description(), rounds=settings.rounds, rows=tuple(rows))
    write_bytes(context.folder / BENCHMARK_FILE, benchmark.to_json())
    return BenchmarkResult(benchmark=benchmark)


def _evaluate(context: StageContext[BenchmarkStage], file: ModelFile) -> Evaluation:
    """Measure the accuracy of a file that the stage that made it has not measured.

    Of an int8 file, that is its accuracy on another engine than its own: engines round differently,
    and on some processors sums overflow in one of them.
    """
    import torch

    from pipeline.stage_accuracy import compare_with_teacher, evaluate_stage
    from reid_edge.core.int8_engine import quantized_engine
    from reid_edge.inference.backends.torchscript_runtime import load_torchscript
    from reid_edge.inference.embedder import embed_files, load_embedder
    from reid_edge.inference.evaluation import evaluate

    logger.info("benchmark: accuracy of %s", file.name)
    if file.engine is None:
        embedder = load_embedder(file.path, input_size=file.input_size)
        settings = context.config.data
        if context.data.labels != "persons":
            embeddings = embed_files(
                embedder,
                [image.path for image in context.data.query],
                batch_size=settings.evaluation_batch,
                workers=settings.workers,
            )
            return compare_with_teacher(context, torch.from_numpy(embeddings))
        return evaluate(
            embedder,
            context.data,
            batch_size=settings.evaluation_batch,
            workers=settings.workers,
            start_progress=lambda title, *_, **__: context.work(f"{file.name}: {title}"),
        ).result
    model, _ = load_torchscript(file.path, file.engine)
    with quantized_engine(file.engine):
        return evaluate_stage(model, replace(context, input_size=file.input_size), device="cpu")


BENCHMARK: Stage[BenchmarkStage] = Stage(
    name="benchmark",
    summary="measure latency, memory, size and accuracy of every model file, side by side",
    settings=BenchmarkStage,
    run=run,
    result="pipeline.stage_results:BenchmarkResult",
    shows_accuracy=True,
    # The hashes of the files that stages made, by ``stage/file``.
    inputs=lambda upstream: {
        f"{stage}/{name}": digest
        for stage, made in upstream.made.items()
        for name, digest in made.outputs.items()
    },
    report="pipeline.report.benchmark_section:BENCHMARK_SECTION",
)

"""Records and results for tests, with blanks for what a test is not about."""

from typing import Any

from pipeline.stage_results import (
    Benchmark,
    BenchmarkResult,
    ModelResult,
    Quantization,
    QuantizeResult,
    StageRecord,
    StageResult,
)
from quantize.measurements import Machine, QuantizationReport
from reid_edge.metrics.results import Evaluation, PairCounts, RankingResult, VerificationResult


def make_record(stage: str, **content: Any) -> StageRecord:
    """A record of a finished stage."""
    blank: dict[str, Any] = {
        "result": make_result(stage), "fingerprint": "", "settings": {}, "inputs": {},
        "outputs": {}, "versions": {}, "seed": 0,
        "seconds": 0.0, "input_size": (64, 32),
    }  # fmt: skip
    return StageRecord(stage=stage, **blank | content)


def make_result(stage: str) -> StageResult:
    """What a stage returns."""
    if stage == "quantize":
        quantization = Quantization(
            report=QuantizationReport(0, 0, 0, 0, 0, 0, (), 0, 0), summary="", engine="qnnpack",
            mode="static", variants={}, kept="static", decision="", calibration_digest="",
        )  # fmt: skip
        return QuantizeResult(quantization=quantization)
    if stage == "benchmark":
        machine = Machine("", "", (), 1, 1, "", None, None, None, "", "", ())
        return BenchmarkResult(benchmark=Benchmark(machine=machine, rounds=2, rows=()))
    return StageResult()


def make_evaluation(
    precision: float = 0.5, verification: VerificationResult | None = None, rank1: float = 0.5
) -> Evaluation:
    """An evaluation with this mAP, by both distances."""
    ranking = RankingResult(
        mean_average_precision=precision, mean_inverse_negative_penalty=precision,
        cumulative_matching={1: rank1, 5: 0.8, 10: 0.9}, queries=1, queries_without_match=0,
        distance="cosine",
    )  # fmt: skip
    return Evaluation(
        ranking={"cosine": ranking, "euclidean": ranking}, verification=verification,
        pairs=PairCounts(which="of all test images", genuine=450, impostor=4500),
        has_cameras=True, query_images=1, gallery_images=1,
    )  # fmt: skip


def make_model(file: str, metrics: Evaluation | None = None) -> ModelResult:
    """The model that a stage made."""
    return ModelResult(
        name="osnet_x0_25", file=file, parameters=1, macs=1, bytes=1,
        metrics=metrics or make_evaluation(),
    )  # fmt: skip

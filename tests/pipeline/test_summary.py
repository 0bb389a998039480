"""The first screen of the page: which files it compares, and what it says of them."""

from typing import Any

import pytest

from pipeline.report.contents import Report, ReportRow
from pipeline.report.summary import Summary, summarise
from pipeline.stage_results import (
    Benchmark,
    BenchmarkResult,
    BenchmarkRow,
    FileResult,
    Latencies,
    ModelLatency,
    StageResult,
)
from quantize.measurements import Machine, Timing
from reid_edge.metrics.results import VerificationResult
from tests.pipeline.records import make_evaluation, make_model, make_record

MACHINE = Machine("A CPU", "x86_64", (), 2, 1, "2", None, None, None, "", "", ())


def row(
    stage: str, name: str, accuracy: float, size: int, latency: float, **more: Any
) -> ReportRow:
    model = make_model(f"{stage}/checkpoint.pt", make_evaluation(accuracy))
    return ReportRow(
        stage=stage, model=model.model_copy(update={"name": name, "bytes": size}),
        input_size=(64, 32), accuracy={"mAP": accuracy}, seconds=1.0, resumed=False, note="",
        latency=ModelLatency(stage=stage, median_ms=latency, spread_ms=0.0, ratio=1.0),
        **{"stale": ""} | more,
    )  # fmt: skip


def report(*rows: ReportRow, task: str = "person", **results: StageResult) -> Report:
    return Report(
        name="r", task=task, distance="cosine", protocol="market1501", has_cameras=True, images="i",
        rows=rows, iterations=(), results=results, latency=None, versions={}, seed=0,
    )  # fmt: skip


def timed(name: str, accuracy: float, size: int, latency: float) -> BenchmarkRow:
    return BenchmarkRow(
        name=name, kind="onnx", engine=None, meant_for="any", input_size=(64, 32), bytes=size,
        metrics=make_evaluation(accuracy), peak_bytes=None,
        timings=(Timing(1, 2, latency, latency, latency, latency, 1.0, 1.0),),
    )  # fmt: skip


TRAIN = row("train", "osnet_x1_0", 0.80, 8_000_000, 40.0)
FINETUNE = row("finetune", "osnet_x0_5", 0.795, 2_000_000, 20.0)
INT8 = row("quantize", "osnet_x0_5 int8", 0.79, 1_000_000, 10.0)


def test_without_a_benchmark_the_last_model_is_compared() -> None:
    said = summarise(report(TRAIN, FINETUNE, INT8), {})
    assert said is not None
    assert (said.before, said.after) == ("OSNet x1.0", "OSNet x0.5 int8")
    assert (said.smaller, said.faster, said.cost) == ("8.0", "4.0", "1.0")
    assert said.accuracy == "80.0% → 79.0%"
    assert "batch 1, 1 thread" in said.speed
    assert said.verdict == (
        "8.0 times smaller and 4.0 times faster, at a cost of 1.0 points of mAP: a good trade."
    )
    assert [bar.size.share for bar in said.bars] == [100.0, 25.0, 12.5]
    assert [bar.latency.share for bar in said.bars] == [100.0, 50.0, 25.0]
    assert said.bars[0].accuracy.share == 100.0


def test_of_the_benchmark_the_fastest_accurate_file_is_compared() -> None:
    benchmark = BenchmarkResult(
        benchmark=Benchmark(
            machine=MACHINE, rounds=2,
            rows=(
                timed("train/checkpoint.pt", 0.80, 8_000_000, 40.0),
                timed("export/fast.onnx", 0.60, 500_000, 1.0),
                timed("export/int8.onnx", 0.785, 800_000, 2.0),
                timed("export/float.onnx", 0.795, 2_000_000, 5.0),
            ),
        )
    )  # fmt: skip
    records = {"benchmark": make_record("benchmark", result=benchmark)}
    said = summarise(report(TRAIN, FINETUNE, INT8, benchmark=benchmark), records)
    assert said is not None
    assert (said.smaller, said.faster, said.cost) == ("10.0", "20.0", "1.5")
    assert "(export/int8.onnx), batch 1, 2 threads" in said.speed
    assert "A CPU" in said.measured_on
    assert said.measured_on.endswith("compared with train/checkpoint.pt, meant for any.")
    assert said.rating == "fair"


def test_the_model_in_the_file_is_named() -> None:
    def said(*files: FileResult) -> str:
        rows = (
            timed("train/checkpoint.pt", 0.80, 8_000_000, 40.0),
            timed("export/best.onnx", 0.80, 2_000_000, 5.0),
        )
        benchmark = BenchmarkResult(benchmark=Benchmark(machine=MACHINE, rounds=2, rows=rows))
        found = report(TRAIN, INT8, benchmark=benchmark, export=StageResult(files=files))
        shown = summarise(found, {"benchmark": make_record("benchmark", result=benchmark)})
        assert shown is not None
        return shown.after

    assert said(FileResult(name="best.onnx", bytes=0, int8=False)) == "OSNet x0.5"
    assert said(FileResult(name="best.onnx", bytes=0, int8=True)) == "OSNet x0.5 int8"


def test_a_benchmark_of_a_busy_machine_is_no_good_verdict() -> None:
    def said(milliseconds: float) -> Summary:
        rows = (
            timed("train/checkpoint.pt", 0.80, 8_000_000, milliseconds),
            timed("export/best.onnx", 0.80, 2_000_000, 5.0),
        )
        benchmark = BenchmarkResult(benchmark=Benchmark(machine=MACHINE, rounds=2, rows=rows))
        latency = Latencies(machine=MACHINE, outputs={}, rounds=2, threads=2, models=())
        found = report(TRAIN, INT8, benchmark=benchmark).model_copy(update={"latency": latency})
        shown = summarise(found, {"benchmark": make_record("benchmark", result=benchmark)})
        assert shown is not None
        return shown

    calm, busy = said(55.0), said(400.0)
    assert (calm.rating, busy.rating) == ("good", "fair")
    assert "busy" not in calm.measured_on
    assert busy.measured_on.endswith(
        "The machine was busy during the benchmark: train/checkpoint.pt took 400.0 ms there, and "
        "40.0 ms before; measure again with --from benchmark."
    )
    assert busy.verdict.endswith(", but the machine was busy while latency was measured.")


def test_what_is_not_good_is_said() -> None:
    slow = row("finetune", "osnet_x0_5", 0.80, 2_000_000, 50.0)
    poor = row("finetune", "osnet_x0_5", 0.70, 2_000_000, 20.0)
    better = row("finetune", "osnet_x0_5", 0.82, 2_000_000, 20.0)
    stale = row("finetune", "osnet_x0_5", 0.80, 2_000_000, 20.0, stale="train.epochs changed")
    rejected = StageResult(files=(FileResult(name="f", bytes=0, int8=True, problems=("cosine",)),))
    for found, rating, words in (
        (report(TRAIN, slow), "poor", "not faster on this machine"),
        (report(TRAIN, poor), "poor", "a high price"),
        (report(TRAIN, better), "good", "better by 2.0 points of mAP"),
        (report(TRAIN, row("finetune", "n", 0.80, 2_000_000, 20.0)), "good", "no cost in mAP"),
        (report(TRAIN, stale), "fair", "finetune no longer fit the settings"),
        (report(TRAIN, FINETUNE, export=rejected), "fair", "1 file(s) are outside their limits"),
    ):
        said = summarise(found, {})
        assert said is not None
        assert said.rating == rating
        assert words in said.verdict


def test_one_model_is_compared_with_nothing() -> None:
    said = summarise(report(TRAIN), {})
    assert said is not None
    assert (said.smaller, said.faster, said.cost, said.rating) == ("", "", "", "open")
    assert summarise(report(), {}) is None


@pytest.mark.parametrize(("after", "gained"), [(0.05, False), (0.01, True)])
def test_of_faces_a_lower_error_is_better(after: float, gained: bool) -> None:
    def faces(stage: str, rate: float) -> ReportRow:
        verification = VerificationResult(
            equal_error_rate=rate, equal_error_threshold=0.5, operating_points=(),
            genuine_pairs=1, impostor_pairs=1,
        )  # fmt: skip
        found = row(stage, "osnet_x1_0", 0.5, 1000, 1.0)
        model = make_model(f"{stage}/c.pt", make_evaluation(0.5, verification))
        return found.model_copy(update={"model": model})

    said = summarise(report(faces("train", 0.03), faces("finetune", after), task="face"), {})
    assert said is not None
    assert (said.measure, said.gained, said.cost) == ("EER", gained, "2.0")

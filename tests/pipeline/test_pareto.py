import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.report.pareto import front, pareto_chart
from pipeline.stage_results import BenchmarkRow
from quantize.measurements import Timing
from tests.pipeline.records import make_evaluation

numbers = st.integers(1, 6).map(float)


# A busy machine is no fault of the strategy.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_the_front_is_what_no_point_beats(points: list[tuple[float, float]]) -> None:
    def beaten(one: tuple[float, float]) -> bool:
        return any(other[0] <= one[0] and other[1] >= one[1] and other != one for other in points)

    found = front(points)
    assert {points[i] for i in found} == {point for point in points if not beaten(point)}
    assert len({points[i] for i in found}) == len(found)
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def benchmark(*points: tuple[float, float]) -> list[BenchmarkRow]:
    def row(number: int, latency: float, accuracy: float) -> BenchmarkRow:
        metrics = make_evaluation(accuracy)
        timing = Timing(1, 1, latency, latency, latency, latency, 1.0, 1.0)
        return BenchmarkRow(
            name=str(number), kind="onnx", engine=None, meant_for="any", input_size=(64, 32),
            bytes=1, metrics=metrics, peak_bytes=None, timings=(timing,),
        )  # fmt: skip

    return [row(number, *point) for number, point in enumerate(points)]


@pytest.mark.parametrize(
    "points",
    [
        [(37.1, 0.80), (14.1, 0.78), (2.6, 0.775), (2.2, 0.60)],
        [(0.8, 0.5)],
        [(5.0, 0.5), (5.0, 0.5)],
        [(0.01, 0.0), (9000.0, 1.0)],
    ],
)
def test_everything_is_inside_and_in_order(points: list[tuple[float, float]]) -> None:
    chart = pareto_chart(benchmark(*points), "cosine")
    places = [(point.x, point.y) for point in chart.points]
    for x, y in places:
        assert chart.left <= x <= chart.right
        assert chart.top <= y <= chart.bottom
    order = sorted(range(len(points)), key=lambda i: points[i])
    assert [places[i][0] for i in order] == sorted(x for x, _ in places)
    for axis in ("latency_marks", "accuracy_marks"):
        assert 1 <= len(getattr(chart, axis)) <= 20
    for mark, text in chart.accuracy_marks:
        assert chart.top <= mark <= chart.bottom, text
    assert len(chart.front) == sum(point.best for point in chart.points)

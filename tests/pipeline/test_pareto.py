import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.report.pareto import front, pareto_image

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


def benchmark(*points: tuple[float, float]) -> dict[str, object]:
    rows = [
        {
            "name": str(number),
            "mAP": accuracy,
            "timings": [{"batch": 1, "threads": 1, "median_ms": latency}],
        }
        for number, (latency, accuracy) in enumerate(points)
    ]
    return {"rows": rows}


@pytest.mark.parametrize(
    "points",
    [
        [(37.1, 0.80), (14.1, 0.78), (2.6, 0.775), (2.2, 0.60)],
        [(0.8, 0.5)],
        [(5.0, 0.5), (5.0, 0.5)],
        [(0.01, 0.0), (9000.0, 1.0)],
    ],
)
def test_everything_lies_inside_and_in_order(points: list[tuple[float, float]]) -> None:
    image = pareto_image(benchmark(*points))
    places = [(point["x"], point["y"]) for point in image["points"]]
    for x, y in places:
        assert image["left"] <= x <= image["right"]
        assert image["top"] <= y <= image["bottom"]
    order = sorted(range(len(points)), key=lambda i: points[i])
    assert [places[i][0] for i in order] == sorted(x for x, _ in places)
    for axis in ("latency_marks", "accuracy_marks"):
        assert 1 <= len(image[axis]) <= 20
    for mark, text in image["accuracy_marks"]:
        assert image["top"] <= mark <= image["bottom"], text
    assert len(image["front"]) == sum(point["best"] for point in image["points"])

"""The charts of the page, and where the names of points are."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.report.axes import axis_around
from pipeline.report.charts import Series, Value, chart, heat_map
from pipeline.report.int8_section import int8_error_chart
from pipeline.report.label_places import POINT, Box, place_labels
from pipeline.report.text import breakable
from pipeline.report.training_curves import training_curves
from pipeline.run_dir import RunDir
from quantize.measurements import LayerSensitivity, Sensitivity
from tests.pipeline.pages import parse_page

AREA = Box(0, 0, 640, 320)
CSS = Path(__file__).parents[2] / "pipeline" / "report" / "page.css"
places = st.tuples(st.floats(10, 630), st.floats(10, 310))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=30)
@given(st.lists(st.tuples(places, st.integers(1, 24)), min_size=1, max_size=14))
def test_no_name_covers_another_or_a_point(found: list[tuple[tuple[float, float], int]]) -> None:
    points = [point for point, _ in found]
    labels = place_labels(points, ["x" * length for _, length in found], AREA)
    boxes = [label.box for label in labels if label is not None]
    for number, box in enumerate(boxes):
        assert box.inside(AREA)
        assert not any(box.overlaps(other) for other in boxes[:number])
        for x, y in points:
            assert not box.overlaps(Box(x - POINT, y - POINT, x + POINT, y + POINT))


def test_names_of_near_points_are_all_written() -> None:
    points = [(300.0 + number, 160.0 + number % 3) for number in range(8)]
    labels = place_labels(points, [f"export/int8_{number}.onnx" for number in range(8)], AREA)
    assert None not in labels
    assert any(label is not None and label.leader is not None for label in labels)


def test_a_name_beside_a_point_is_that_points() -> None:
    points = [(400.0, 100.0), (490.0, 100.0), (380.0, 118.0)]
    labels = place_labels(points, ["export/float.pt", "finetune/checkpoint.pt", "int8.pt"], AREA)
    for number, label in enumerate(labels):
        assert label is not None
        if label.leader is None:
            distances = [label.box.distance(point) for point in points]
            assert min(distances) == distances[number]


def test_a_name_without_room_is_left_out() -> None:
    assert place_labels([(10, 10)], ["x" * 200], AREA) == [None]


def test_names_keep_off_the_line() -> None:
    line = [(0.0, 160.0), (640.0, 160.0)]
    (label,) = place_labels([(320.0, 160.0)], ["name"], AREA, line)
    assert label is not None
    assert label.box.bottom <= 158 or label.box.top >= 162


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [1e-7, 5.0], [0.2, 0.21], [1.0, 9e8]])
def test_an_axis_shows_all_values_and_marks_some(values: list[float], logarithmic: bool) -> None:
    axis = axis_around(values, 400, 10, logarithmic=logarithmic, least=0.1)
    for value in values:
        if value > 0 or not logarithmic:
            assert 10 <= axis.place(value) <= 400
    if len(set(values)) > 1:
        assert 1 <= len(axis.marks()) <= 20


def test_a_chart_escapes_names_and_has_every_value() -> None:
    values = [Value(1, 0.5, "a < b"), Value(2, 0.0, "zero"), Value(3, float("nan"), "none")]
    drawn = chart("x & y", [Series("<b>", values), Series("none", [])], across="a", up="b")
    assert drawn.count("<title>") == 2
    assert "a &lt; b" in drawn
    assert "<b>" not in drawn
    assert parse_page(drawn).unclosed == []
    # On a logarithmic axis there is no place for zero.
    only = chart("x", [Series("s", values)], across="a", up="b", logarithmic=True)
    assert only.count("<title>") == 1
    assert chart("nothing", [Series("none", [])], across="a", up="b") == ""


def test_a_heat_map_has_a_cell_for_each_row_and_column() -> None:
    drawn = heat_map("t", ["cut 1", "cut 2"], ["a", "b", "c"], [[0, 0.5, 1]] * 2, "removed")
    assert drawn.count("<rect ") == 6
    assert "b, cut 2: 50% removed" in drawn
    opacities = [float(found) for found in re.findall(r'fill-opacity="([0-9.]+)"', drawn)]
    assert opacities[0] < opacities[1] < opacities[2] == 1


def test_curves_are_drawn_of_whole_and_half_written_trainings(tmp_path: Path) -> None:
    for stage, text in (
        ("train", "epoch,learning_rate,loss,validation_mAP\n1,0.1,2.5,\n2,0.05,nan,0.4\n"),
        ("prune/iteration_10", "epoch,loss\n1,1.0\n"),
        ("prune/iteration_2", "epoch,loss\n1,1.0\n"),
        ("finetune", "not a table"),
    ):
        folder = tmp_path / stage
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(text)
    names = [training.name for training in training_curves(RunDir(tmp_path))]
    assert names == ["train", "prune iteration 2", "prune iteration 10"]
    train = training_curves(RunDir(tmp_path))[0]
    assert train.epochs == 2
    assert "loss, epoch 1: 2.5" in train.losses
    assert "epoch 2" not in train.losses  # it is no number
    assert "epoch 2: 0.4" in train.accuracy
    assert "learning rate, epoch 2: 0.05" in train.rates


def test_learning_rates_that_are_the_same_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "train" / "metrics.csv"
    path.parent.mkdir()
    for head, found in ((0.05, False), (0.5, True)):
        path.write_text(f"epoch,learning_rate,head_learning_rate\n1,0.05,{head}\n")
        (training,) = training_curves(RunDir(tmp_path))
        assert ("head learning rate" in training.rates) == found


def test_names_break_behind_their_separators() -> None:
    assert breakable("a/b_c.pt") == "a/<wbr>b_<wbr>c.<wbr>pt"
    assert breakable("<i>.") == "&lt;i&gt;."


def test_the_error_of_int8_is_drawn_by_layer() -> None:
    layers = tuple(
        LayerSensitivity(f"conv{n}", 1, 10, 100, alone=n / 1000, saved=n / 2000) for n in (3, 2, 1)
    )
    drawn = int8_error_chart(Sensitivity(0.01, 0.001, 0.001, layers))
    assert "conv3, only this layer int8: 3.000" in drawn
    assert "conv1, saved by float: 0.500" in drawn
    assert int8_error_chart(Sensitivity(0.01, 0.001, 0.001, ())) == ""


def test_words_can_be_read_on_every_background() -> None:
    """WCAG 2.2 asks for a contrast of 4.5 for text, and of 3 for lines and marks."""
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in
                   CSS.read_text().split("prefers-color-scheme: dark"))  # fmt: skip
    for colours in (light, dark):
        for back in ("back", "raised"):
            for text in ("text", "quiet", "accent"):
                assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
            for line in ("good", "fair", "poor", *(f"c{number}" for number in range(6))):
                assert contrast(colours[line], colours[back]) >= 3, (line, back)


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)

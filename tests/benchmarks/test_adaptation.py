"""The cases of the benchmark of adaptation."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.adaptation import CASES, is_right, one_person, site_images, strangers
from reid_edge.data.schema import ReidData


def test_there_are_ten_good_and_ten_spoiled_cases() -> None:
    assert sum(case.good for case in CASES.values()) == 10
    assert len(CASES) == 20


@pytest.mark.parametrize(
    ("kept", "before", "after", "right"),
    [
        (True, 0.3, 0.35, True),
        (True, 0.3, 0.29, False),
        (False, 0.3, 0.29, True),
        (False, 0.3, 0.305, True),
        (False, 0.3, 0.32, False),
        (False, 0.3, None, True),
    ],
)
def test_a_decision_is_right_that_costs_nothing(
    kept: bool, before: float, after: float | None, right: bool
) -> None:
    assert is_right(kept, before, after) is right


def test_sites_are_made_of_whole_persons(tiny_data: ReidData, tmp_path: Path) -> None:
    images = site_images(tiny_data, 10)
    counts = np.unique([image.person for image in images], return_counts=True)[1]
    assert counts.tolist() == [6, 6]
    generator = np.random.default_rng(0)
    few = strangers(3, 2)(site_images(tiny_data, 1000), generator, tmp_path)
    assert len(few) == 6
    one = one_person(0)(list(tiny_data.train), generator, tmp_path / "one")
    assert len(one) == 200
    assert all(image.path.is_file() for image in one)

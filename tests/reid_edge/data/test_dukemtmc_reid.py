"""DukeMTMC-reID's names and wrapping folders."""

from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.dukemtmc_reid import read_dukemtmc_reid


@pytest.mark.parametrize("wrapping", ["", "DukeMTMC-reID", "dukemtmc-reid/DukeMTMC-reID"])
def test_names_and_wrappings(tmp_path: Path, wrapping: str) -> None:
    for folder, name in (
        ("bounding_box_train", "0001_c2_f0046182.jpg"),
        ("query", "0005_c8_f0051341.jpg"),
        ("bounding_box_test", "0005_c1_f0051341.jpg"),
    ):
        (tmp_path / wrapping / folder).mkdir(parents=True)
        (tmp_path / wrapping / folder / name).touch()
    data = read_dukemtmc_reid(tmp_path)
    assert [(p.person, p.camera) for p in data.images()] == [(1, 2), (5, 8), (5, 1)]


def test_a_missing_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'bounding_box_train' in it"):
        read_dukemtmc_reid(tmp_path)

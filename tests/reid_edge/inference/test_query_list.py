"""What each query finds, as a file."""

import csv
import os
from pathlib import Path

from reid_edge.data.schema import ReidData, Sample
from reid_edge.inference.evaluation import write_query_list
from reid_edge.metrics.ranking import QueryRanking


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    root = tmp_path / "set"
    query = Sample(root / "query" / os.fsdecode(b"J\xf6rg.jpg"), 1, 1)
    gallery = Sample(root / "gallery" / "J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg.jpg", 1, 2)
    data = ReidData(root, (), (query,), (gallery,))
    write_query_list(tmp_path / "queries.csv", data, [QueryRanking(1.0, 1, (0,))])
    with (tmp_path / "queries.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    # As they are printed; the file stays UTF-8.
    assert row["query"] == "query/J\\udcf6rg.jpg"
    assert row["nearest_1"] == "gallery/J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg.jpg"

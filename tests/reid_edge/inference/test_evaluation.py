"""The content of a written measurement."""

from pathlib import Path

import pytest

from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import load_embedder
from reid_edge.inference.evaluation import evaluate, write_evaluation


@pytest.mark.parametrize("each_query", [True, False])
def test_queries_are_written_if_they_were_asked_for(
    tmp_path: Path, checkpoint_file: Path, tiny_data: ReidData, each_query: bool
) -> None:
    (tmp_path / "queries.csv").write_text("of an earlier measurement")
    evaluation = evaluate(load_embedder(checkpoint_file), tiny_data, each_query=each_query)
    write_evaluation(tmp_path, tiny_data, evaluation)
    written = {path.name for path in tmp_path.iterdir()}
    queries = {"queries.csv"} if each_query else set()
    assert written == {"metrics.json", "roc.csv", "cmc.csv", *queries}
    if each_query:
        assert (tmp_path / "queries.csv").read_text().startswith("query,average_precision,")

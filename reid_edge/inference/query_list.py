"""What each query finds, as a CSV file: the way to the images that a model fails on."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from reid_edge.core.io import write_bytes
from reid_edge.data.schema import ReidData
from reid_edge.metrics.query_rankings import NEAREST, QueryRanking

HEADING = (
    "query", "average_precision", "first_match", *(f"nearest_{n}" for n in range(1, NEAREST + 1)),
)  # fmt: skip


def write_query_list(path: Path, data: ReidData, rankings: Iterable[QueryRanking]) -> None:
    """Write a line for each query; whole or not at all.

    Images are named by their paths from the data set's folder, with a backslash for bytes that
    are not UTF-8, as they are printed. Average precision and the rank of the first match are empty
    for a query that has none.

    Args:
        path: of the file.
        data: whose queries and gallery these are.
        rankings: of its queries, in their order.

    Raises:
        OSError: it cannot be written.
    """

    def name(image: Path) -> str:
        inside = image.is_relative_to(data.root)
        return (image.relative_to(data.root) if inside else image).as_posix()

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADING)
    for query, ranking in zip(data.query, rankings, strict=True):
        nearest = [name(data.gallery[place].path) for place in ranking.nearest]
        blanks = [""] * (NEAREST - len(nearest))
        writer.writerow(
            [name(query.path), ranking.average_precision, ranking.first_match, *nearest, *blanks]
        )
    write_bytes(path, text.getvalue().encode(errors="backslashreplace"))

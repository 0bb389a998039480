"""What each query finds under a stage's model, and how alike pairs are (``found.json``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from pipeline.stage_results import SCHEMA_VERSION, Result
from reid_edge.core.io import write_bytes

if TYPE_CHECKING:
    from reid_edge.data.schema import ReidData, Sample
    from reid_edge.inference.evaluation import DetailedEvaluation

FOUND = "found.json"
BINS = 80  # of a cosine similarity between -1 and 1


class LabelledImage(Result):
    """An image that a query is, or finds.

    Attributes:
        file: path below the data set's folder, or a whole path.
        person: identity.
        camera: camera.
    """

    file: str
    person: int
    camera: int


class FoundByQuery(Result):
    """What a query finds in the gallery, without images of its person from its camera.

    Attributes:
        query: its place among the images.
        average_precision: mean of the precision at each match; None without a match.
        nearest: places among the images of the ten nearest gallery images, the nearest first.
    """

    query: int
    average_precision: float | None
    nearest: tuple[int, ...]


class FoundImages(Result):
    """What each query finds, by cosine similarity (``found.json``).

    Attributes:
        root: folder of the data set.
        images: the queries, and the gallery images that one of them finds.
        queries: one for each query, in order.
        genuine: number of pairs of one identity by cosine similarity, in equal bins from -1 to 1.
        impostor: likewise of pairs of two identities.
        schema_version: version of this layout.
    """

    root: str
    images: tuple[LabelledImage, ...]
    queries: tuple[FoundByQuery, ...]
    genuine: tuple[int, ...]
    impostor: tuple[int, ...]
    schema_version: Literal[2] = SCHEMA_VERSION


def write_found_images(path: Path, data: ReidData, evaluation: DetailedEvaluation) -> None:
    """Write what the queries of an evaluation find.

    Args:
        path: of the file.
        data: whose queries and gallery were evaluated.
        evaluation: made with ``each_query``.
    """
    import torch

    places: dict[Path, int] = {}
    images: list[LabelledImage] = []

    def place(sample: Sample) -> int:
        if sample.path not in places:
            inside = sample.path.is_relative_to(data.root)
            name = sample.path.relative_to(data.root) if inside else sample.path
            places[sample.path] = len(images)
            # The name of a file may not be valid text; such an image is not shown.
            text = str(name).encode(errors="backslashreplace").decode()
            images.append(LabelledImage(file=text, person=sample.person, camera=sample.camera))
        return places[sample.path]

    queries = tuple(
        FoundByQuery(
            query=place(query),
            average_precision=found.average_precision,
            nearest=tuple(place(data.gallery[number]) for number in found.nearest),
        )
        for query, found in zip(data.query, evaluation.queries, strict=True)
    )
    genuine, impostor = (
        tuple(int(count) for count in torch.histc(scores.float(), BINS, -1, 1).tolist())
        if len(scores)
        else (0,) * BINS
        for scores in (evaluation.pairs.genuine, evaluation.pairs.impostor)
    )
    content = FoundImages(
        root=str(data.root).encode(errors="backslashreplace").decode(),
        images=tuple(images), queries=queries, genuine=genuine, impostor=impostor,
    )  # fmt: skip
    write_bytes(path, (content.model_dump_json() + "\n").encode())


def read_found_images(folder: Path) -> FoundImages | None:
    """Read what a stage left, or return None if there is nothing that can be read."""
    try:
        return FoundImages.model_validate_json((folder / FOUND).read_bytes())
    except (OSError, ValidationError):
        return None

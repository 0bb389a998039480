"""Queries with the ten images that each model finds nearest, and the scores of its pairs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from pipeline.found_images import FoundImages, read_found_images
from pipeline.report.score_histogram import score_histogram
from pipeline.report.thumbnails import Thumbnails
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord
from reid_edge.metrics.results import Evaluation

QUERIES_EACH = 4  # of each kind: where the models differ, the worst, a random draw


@dataclass(frozen=True)
class FoundImage:
    """An image that a query finds.

    Attributes:
        thumbnail: name of its class in the style sheet; empty if it could not be read.
        hit: whether it is of the query's person.
        words: what a screen reader says.
    """

    thumbnail: str
    hit: bool
    words: str


@dataclass(frozen=True)
class ModelRow:
    """What one model finds for a query.

    Attributes:
        model: its name.
        average_precision: in words.
        images: the nearest first.
    """

    model: str
    average_precision: str
    images: tuple[FoundImage, ...]


@dataclass(frozen=True)
class QueryRows:
    """A query and what every model finds.

    Attributes:
        query: its image.
        rows: one a model.
    """

    query: FoundImage
    rows: tuple[ModelRow, ...]


@dataclass(frozen=True)
class FoundSection:
    """The section of the page.

    Attributes:
        groups: queries by why they are shown.
        styles: rules of the style sheet, one for each thumbnail.
        ratio: width of an image divided by its height.
        histograms: scores of same and different persons, one for each model.
        queries: number of queries of the data set.
        note: why there are no images; empty if there are.
    """

    groups: tuple[tuple[str, tuple[QueryRows, ...]], ...]
    styles: Markup
    ratio: float
    histograms: tuple[Markup, ...]
    queries: int
    note: str = ""


def found_section(
    run: RunDir, records: Mapping[str, StageRecord], *, images: bool, seed: int
) -> FoundSection | None:
    """Return what the models of a run find, or None if no stage wrote it down.

    The models are the first one, the last float one, and the int8 one.

    Args:
        run: whose stages they are.
        records: of the stages with a result in the report.
        images: whether the page may have images of persons.
        seed: of the random draw.
    """
    found = {
        name: content
        for name, record in records.items()
        if record.result.model is not None
        and (content := read_found_images(run.stage_dir(name))) is not None
    }
    if not found:
        return None
    floats = [name for name in found if _engine(records[name]) is None]
    chosen = list(dict.fromkeys([*floats[:1], *floats[-1:], *list(found)[-1:]]))
    names = {stage: f"{_model(records[stage])} ({stage})" for stage in chosen}
    histograms = tuple(
        score_histogram(names[stage], found[stage], _metrics(records[stage])) for stage in chosen
    )
    first = found[chosen[0]]
    height, width = records[chosen[0]].input_size
    blank = FoundSection((), Markup(""), width / height, histograms, len(first.queries))
    if not images:
        return replace(blank, note="Images are left out: report.images is false.")
    # Only models that were measured on the same queries are compared.
    same = {
        names[stage]: found[stage] for stage in chosen if _queries(found[stage]) == _queries(first)
    }
    thumbnails = Thumbnails(Path(first.root), width / height)
    groups = tuple(
        (title, tuple(_rows(number, same, thumbnails) for number in numbers))
        for title, numbers in _choose(list(same.values()), seed)
        if numbers
    )
    note = "" if thumbnails.rules else f"The images in {first.root} cannot be read."
    return replace(
        blank,
        groups=groups if thumbnails.rules else (),
        styles=Markup("").join(thumbnails.rules),
        note=note,
    )


def _choose(models: Sequence[FoundImages], seed: int) -> list[tuple[str, list[int]]]:
    """Return numbers of queries by why they are shown; none of them twice."""
    precisions = [[query.average_precision for query in model.queries] for model in models]
    scored = [
        (number, [value for value in values if value is not None])
        for number, values in enumerate(zip(*precisions, strict=True))
        if None not in values
    ]
    spread = sorted(
        ((max(values) - min(values), number) for number, values in scored), reverse=True
    )
    differ = [number for difference, number in spread[:QUERIES_EACH] if difference > 0]
    # Of the last float model: what int8 changes is in the first group.
    judged = min(1, len(models) - 1)
    worst = sorted((values[judged], number) for number, values in scored if number not in differ)
    lowest = [number for _, number in worst[:QUERIES_EACH]]
    rest = [number for number, _ in scored if number not in {*differ, *lowest}]
    drawn = random.Random(seed).sample(rest, min(QUERIES_EACH, len(rest)))
    return [
        ("Where the models differ most", differ),
        ("The worst queries" + (" of the compact model" if judged else ""), lowest),
        ("A random draw", sorted(drawn)),
    ]


def _rows(number: int, models: Mapping[str, FoundImages], thumbnails: Thumbnails) -> QueryRows:
    first = next(iter(models.values()))
    query = first.images[first.queries[number].query]
    rows = []
    for name, model in models.items():
        found = model.queries[number]
        images = []
        for place, index in enumerate(found.nearest, start=1):
            image = model.images[index]
            hit = image.person == query.person
            words = f"place {place}: {'the same person' if hit else 'another person'}"
            images.append(FoundImage(thumbnails.name_of(image.file), hit, words))
        precision = found.average_precision
        text = "no match" if precision is None else f"AP {100 * precision:.0f}"
        rows.append(ModelRow(name, text, tuple(images)))
    words = f"query: person {query.person}, camera {query.camera}"
    return QueryRows(FoundImage(thumbnails.name_of(query.file), True, words), tuple(rows))


def _queries(found: FoundImages) -> list[str]:
    return [found.images[query.query].file for query in found.queries]


def _engine(record: StageRecord) -> str | None:
    return None if record.result.model is None else record.result.model.engine


def _model(record: StageRecord) -> str:
    return "" if record.result.model is None else record.result.model.name


def _metrics(record: StageRecord) -> Evaluation | None:
    return None if record.result.model is None else record.result.model.metrics

"""Queries with the ten images that each model finds nearest, and the scores of its pairs."""

from __future__ import annotations

import base64
import io
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from pipeline.found_images import BINS, FoundImages, read_found_images
from pipeline.report.charts import Series, Value, chart
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord
from reid_edge.metrics.results import Evaluation

QUERIES_EACH = 4  # of each kind: where the models differ, the worst, a random draw
THUMBNAIL_HEIGHT = 96
QUALITY = 70
MOST_BYTES = 2_000_000  # of all thumbnails as text, of the 4 MB that a page may have

logger = logging.getLogger(__name__)


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
        _histogram(names[stage], found[stage], _metrics(records[stage])) for stage in chosen
    )
    first = found[chosen[0]]
    height, width = records[chosen[0]].input_size
    blank = FoundSection((), Markup(""), width / height, histograms, len(first.queries))
    if not images:
        return FoundSection(
            **{**vars(blank), "note": "Images are left out: report.images is false."}
        )
    # Only models that were measured on the same queries are compared.
    same = {
        names[stage]: found[stage]
        for stage in chosen
        if _queries(found[stage]) == _queries(first)
    }  # fmt: skip
    thumbnails = _Thumbnails(Path(first.root), width / height)
    groups = tuple(
        (title, tuple(_rows(number, same, thumbnails) for number in numbers))
        for title, numbers in _choose(list(same.values()), seed)
        if numbers
    )
    note = "" if thumbnails.rules else f"The images in {first.root} cannot be read."
    return FoundSection(
        groups if thumbnails.rules else (), Markup("").join(thumbnails.rules), width / height,
        histograms, len(first.queries), note,
    )  # fmt: skip


class _Thumbnails:
    """Small copies of images, each once, as rules of a style sheet."""

    def __init__(self, root: Path, ratio: float) -> None:
        self.rules: list[Markup] = []
        self._root = root
        self._size = (max(round(THUMBNAIL_HEIGHT * ratio), 8), THUMBNAIL_HEIGHT)
        self._known: dict[str, str] = {}
        self._bytes = 0

    def name_of(self, file: str) -> str:
        """Return the class of an image, or nothing if it cannot be read or there is no room."""
        if file not in self._known:
            content = self._encode(self._root / file)
            self._bytes += len(content)
            name = f"p{len(self.rules)}" if content and self._bytes < MOST_BYTES else ""
            if name:
                rule = Markup(".{}{{background-image:url(data:image/jpeg;base64,{})}}\n")
                self.rules.append(rule.format(name, content))
            self._known[file] = name
        return self._known[file]

    def _encode(self, path: Path) -> str:
        try:
            with Image.open(path) as image:
                small = image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            logger.debug("%s: not shown (%s)", path, error)
            return ""
        content = io.BytesIO()
        small.save(content, "JPEG", quality=QUALITY)
        return base64.b64encode(content.getvalue()).decode()


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
        ("The worst queries of the compact model", lowest),
        ("A random draw", sorted(drawn)),
    ]


def _rows(
    number: int, models: Mapping[str, FoundImages], thumbnails: _Thumbnails
) -> QueryRows:  # fmt: skip
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


def _histogram(name: str, found: FoundImages, metrics: Evaluation | None) -> Markup:
    """Draw the scores of same and different persons, with the thresholds of verification."""
    series = []
    for words, counts in (("same person", found.genuine), ("different persons", found.impostor)):
        total = sum(counts)
        filled = [number for number, count in enumerate(counts) if count]
        if not filled:
            continue
        bins = range(max(filled[0] - 1, 0), min(filled[-1] + 2, BINS))
        values = [
            Value(
                -1 + 2 * bin_number / BINS, 100 * counts[bin_number] / total,
                f"{words}, cosine {-1 + 2 * bin_number / BINS:.3f} to "
                f"{-1 + 2 * (bin_number + 1) / BINS:.3f}: {counts[bin_number]:,} of {total:,}",
            )
            for bin_number in bins
        ]  # fmt: skip
        series.append(Series(words, values, points=False, steps=True))
    limits = []
    verification = metrics.verification if metrics is not None else None
    if verification is not None:
        rate, threshold = verification.equal_error_rate, verification.equal_error_threshold
        limits.append((threshold, f"equal error rate {rate:.1%} at {threshold:.3f}"))
        limits += [
            (point.threshold, f"false accepts {point.target:g}: true accepts "
             f"{point.true_accept_rate or 0:.1%} at {point.threshold:.3f}")
            for point in verification.operating_points
            if point.threshold is not None
        ]  # fmt: skip
    return chart(
        f"{name}: cosine similarity of pairs of the same and of different persons",
        series, across=f"cosine similarity, {name}", up="per cent of the pairs", limits=limits,
        from_zero=True, height=210,
    )  # fmt: skip

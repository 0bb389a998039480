"""What queries find: the file of a stage, and what the page shows of several stages."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.found_images import (
    BINS,
    FOUND,
    FoundByQuery,
    FoundImages,
    LabelledImage,
    read_found_images,
    write_found_images,
)
from pipeline.report import thumbnails
from pipeline.report.found_section import FoundSection, found_section
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageResult
from reid_edge.core.io import write_bytes
from reid_edge.data.schema import ReidData
from reid_edge.inference.evaluation import evaluate_embeddings
from tests.pipeline.records import make_model, make_record

QUERIES = 20


def write_stage(run: RunDir, stage: str, precisions: list[float], *, first_file: int = 0) -> None:
    """What a stage leaves whose queries find two images each, the first of their person."""
    count = len(precisions)
    images = tuple(
        LabelledImage(
            file=f"{first_file + number}.png", person=number % count, camera=number // count
        )
        for number in range(2 * count)
    )
    found = FoundImages(
        root=str(run.path / "images"), images=images,
        queries=tuple(
            FoundByQuery(
                query=number, average_precision=precision,
                nearest=(count + number, count + (number + 1) % count),
            )
            for number, precision in enumerate(precisions)
        ),
        genuine=(0,) * (BINS - 1) + (5,), impostor=(7,) + (0,) * (BINS - 1),
    )  # fmt: skip
    write_bytes(run.stage_dir(stage) / FOUND, found.model_dump_json().encode())


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    (run.path / "images").mkdir(parents=True)
    for number in range(2 * QUERIES):
        Image.new("RGB", (8, 16), (number, 0, 0)).save(run.path / "images" / f"{number}.png")
    write_stage(run, "train", [0.9] * QUERIES)
    for stage, low in (("finetune", 0.5), ("quantize", 0.4)):
        write_stage(run, stage, [low - number / 100 for number in range(QUERIES)])
    return run


def section(run: RunDir, *, images: bool = True, seed: int = 0) -> FoundSection:
    records = {}
    for stage in ("train", "prune", "finetune", "quantize"):
        model = make_model(f"{stage}/model")
        if stage == "quantize":
            model = model.model_copy(update={"engine": "qnnpack", "name": "osnet_x0_25 int8"})
        records[stage] = make_record(stage, result=StageResult(model=model))
    found = found_section(run, records, images=images, seed=seed)
    assert found is not None
    return found


def test_no_query_is_shown_twice_and_the_same_seed_draws_the_same(run: RunDir) -> None:
    found = section(run)
    titles = [title for title, _ in found.groups]
    assert titles == [
        "Where the models differ most",
        "The worst queries of the compact model",
        "A random draw",
    ]
    shown = [query.query.thumbnail for _, queries in found.groups for query in queries]
    assert len(shown) == len(set(shown)) == 12
    assert section(run) == found
    assert section(run, seed=1).groups[2] != found.groups[2]
    worst = [query.rows[1].average_precision for query in found.groups[1][1]]
    assert worst == ["AP 35", "AP 36", "AP 37", "AP 38"]  # the four below differ more
    for _, queries in found.groups:
        for query in queries:
            assert [row.model.rpartition("(")[2] for row in query.rows] == [
                "train)", "finetune)", "quantize)",
            ]  # fmt: skip
            for row in query.rows:
                assert [image.hit for image in row.images] == [True, False]


def test_each_image_is_in_the_page_once(run: RunDir) -> None:
    found = section(run)
    rules = str(found.styles).splitlines()
    assert len(rules) == len(set(rules))
    assert all("url(data:image/jpeg;base64," in rule for rule in rules)
    assert found.ratio == 0.5


def test_without_images_the_scores_stay(run: RunDir) -> None:
    found = section(run, images=False)
    assert (found.groups, str(found.styles)) == ((), "")
    assert "report.images is false" in found.note
    assert len(found.histograms) == 3
    assert "same person, cosine 0.975 to 1.000: 5 of 5" in found.histograms[0]
    assert "different persons, cosine -1.000 to -0.975: 7 of 7" in found.histograms[0]


def test_a_model_of_other_queries_is_not_compared(run: RunDir) -> None:
    write_stage(run, "quantize", [0.5] * QUERIES, first_file=100)
    (_, queries), *_ = section(run).groups
    assert [row.model for row in queries[0].rows] == [
        "osnet_x0_25 (train)",
        "osnet_x0_25 (finetune)",
    ]


def test_images_that_are_gone_are_told_of(run: RunDir) -> None:
    for path in (run.path / "images").iterdir():
        path.unlink()
    found = section(run)
    assert found.groups == ()
    assert found.note == f"The images in {run.path / 'images'} cannot be read."


def test_a_run_without_found_images_has_no_section(run: RunDir) -> None:
    for stage in ("train", "finetune", "quantize"):
        (run.stage_dir(stage) / FOUND).write_text("{")
        assert read_found_images(run.stage_dir(stage)) is None
    assert found_section(run, {"train": make_record("train")}, images=True, seed=0) is None


def test_thumbnails_stay_below_their_limit(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST_BYTES", 3000)
    small = thumbnails.Thumbnails(run.path / "images", 0.5)
    names = [small.name_of(f"{number}.png") for number in range(20)]
    assert names[0] == small.name_of("0.png") == "p0"
    assert "" in names
    assert len("".join(small.rules)) < 3000 + 60 * len(small.rules)


def test_what_is_written_is_what_the_evaluation_found(tiny_data: ReidData, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        torch.randn(len(images), 8, generator=generator)
        for images in (tiny_data.query, tiny_data.gallery)
    )
    evaluation = evaluate_embeddings(query, gallery, tiny_data, each_query=True)
    write_found_images(tmp_path / FOUND, tiny_data, evaluation)
    found = read_found_images(tmp_path)
    assert found is not None
    assert len(found.queries) == len(tiny_data.query)
    for asked, ranking, sample in zip(
        found.queries, evaluation.queries, tiny_data.query, strict=True
    ):
        assert Path(found.root) / found.images[asked.query].file == sample.path
        assert asked.average_precision == ranking.average_precision
        nearest = [Path(found.root) / found.images[place].file for place in asked.nearest]
        assert nearest == [tiny_data.gallery[place].path for place in ranking.nearest]
    assert sum(found.genuine) == len(evaluation.pairs.genuine)
    assert sum(found.impostor) == len(evaluation.pairs.impostor)

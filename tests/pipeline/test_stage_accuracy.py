"""What is measured after every stage, and what the tables show of it by task."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_curve
from torch import Tensor

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.report.accuracy import (
    accuracy_columns,
    describe_accuracy,
    percent,
    verification_cells,
    verification_headings,
    verification_table,
)
from pipeline.report.contents import Report, ReportRow
from pipeline.stage_accuracy import evaluate_stage
from pipeline.stage_results import headline
from reid_edge.data.identities import stand_in_cameras
from reid_edge.data.loaders import stack_images
from reid_edge.data.schema import ReidData, Sample
from reid_edge.metrics.results import OperatingPoint, VerificationResult
from tests.pipeline.records import make_evaluation, make_model

Config = config_class()


def colours(images: Tensor) -> Tensor:
    """Embed images (N, 3, H, W) as their mean colours, by halves (N, 6)."""
    return images.unflatten(2, (2, -1)).mean((3, 4)).flatten(1)


def context(data: ReidData, task: str) -> StageContext:
    config = Config.model_validate({"data": {"workers": 0}, "evaluation": {"task": task}})
    return StageContext("train", config, config.train, Path(), data, None, None, "", (64, 32))


@pytest.fixture
def faces(tiny_data: ReidData) -> ReidData:
    images = (*tiny_data.query, *tiny_data.gallery)
    cameras = stand_in_cameras((image.person, image.path) for image in images)

    def bare(split: tuple[Sample, ...]) -> tuple[Sample, ...]:
        return tuple(replace(image, camera=cameras[image.path]) for image in split)

    return replace(
        tiny_data,
        query=bare(tiny_data.query),
        gallery=bare(tiny_data.gallery),
        has_cameras=False,
    )


def test_verification_without_cameras_equals_scikit_learn_on_all_pairs(faces: ReidData) -> None:
    result = evaluate_stage(colours, context(faces, "face"), device="cpu").verification
    assert result is not None
    images = [*faces.query, *faces.gallery]
    features = colours(stack_images(images, height=64, width=32))
    scores, same = [], []
    for i, one in enumerate(images):
        for j, other in enumerate(images[:i]):
            scores.append(float(torch.cosine_similarity(features[i], features[j], dim=0)))
            same.append(one.person == other.person)
    accepts, trues, _ = roc_curve(same, scores, drop_intermediate=False)
    nearest = abs(accepts - (1 - trues)).argmin()
    expected = (accepts[nearest] + 1 - trues[nearest]) / 2
    assert result.equal_error_rate == pytest.approx(expected)
    assert result.genuine_pairs == sum(same)
    assert result.impostor_pairs == len(same) - sum(same)
    at_tenth = result.operating_points[0]
    assert at_tenth.true_accept_rate == pytest.approx(trues[accepts <= 0.1].max())


def test_persons_are_verified_across_cameras_and_strangers_on_all(tiny_data: ReidData) -> None:
    result = evaluate_stage(colours, context(tiny_data, "person"), device="cpu").verification
    assert result is not None
    pairs = [(q, g) for q in tiny_data.query for g in tiny_data.gallery]
    strangers = sum(q.person != g.person for q, g in pairs)
    found_again = sum(q.person == g.person and q.camera != g.camera for q, g in pairs)
    assert (result.genuine_pairs, result.impostor_pairs) == (found_again, strangers)


def test_the_task_changes_what_is_shown_not_what_is_measured(faces: ReidData) -> None:
    as_face, as_person = (context(faces, task) for task in ("face", "person"))
    metrics = evaluate_stage(colours, as_face, device="cpu")
    assert evaluate_stage(colours, as_person, device="cpu") == metrics
    assert metrics.has_cameras is False
    assert metrics.verification is not None
    assert (
        headline(metrics, as_face.config.evaluation.distance)["EER"]
        == metrics.verification.equal_error_rate
    )


def test_one_identity_has_no_impostors(faces: ReidData) -> None:
    person = faces.query[0].person
    alone = replace(
        faces,
        query=tuple(image for image in faces.query if image.person == person),
        gallery=tuple(image for image in faces.gallery if image.person == person),
    )
    metrics = evaluate_stage(colours, context(alone, "face"), device="cpu")
    assert metrics.verification is None
    assert "EER" not in headline(metrics, Config().evaluation.distance)


def point(target: float, rate: float | None, threshold: float | None) -> OperatingPoint:
    return OperatingPoint(
        target=target, true_accept_rate=rate, false_accept_rate=None, threshold=threshold
    )


VERIFICATION = VerificationResult(
    equal_error_rate=0.081,
    equal_error_threshold=0.4567,
    operating_points=(
        point(0.1, 0.95, 0.4), point(0.01, 0.8, 0.612), point(0.001, 0.0, None),
        point(0.0001, None, None),
    ),
    genuine_pairs=450,
    impostor_pairs=4500,
)  # fmt: skip


def row(verification: VerificationResult | None) -> ReportRow:
    metrics = make_evaluation(verification=verification, rank1=0.75)
    model = make_model("train/checkpoint.pt", metrics)
    return ReportRow(
        stage="train", model=model, input_size=(64, 32),
        accuracy=headline(metrics, "cosine"),
        latency=None, seconds=1.0, resumed=False, note="", stale="",
    )  # fmt: skip


def report(*rows: ReportRow, **content: object) -> Report:
    return Report.model_validate(
        {
            "name": "run", "task": "face", "distance": "cosine", "protocol": "market1501",
            "has_cameras": True, "images": "faces", "rows": rows, "iterations": (), "results": {},
            "latency": None, "versions": {}, "seed": 3, **content,
        }
    )  # fmt: skip


ROW, UNVERIFIED = row(VERIFICATION), row(None)


def shown(task: str, row: ReportRow) -> dict[str, str]:
    return {heading: percent(value(row)) for heading, value in accuracy_columns(task)}


def test_columns_by_task() -> None:
    assert shown("person", ROW) == {"mAP": "50.0%", "rank-1": "75.0%"}
    assert shown("face", ROW) == {"EER": "8.1%", "TAR@FAR 0.01": "80.0%", "rank-1": "75.0%"}
    assert shown("face", UNVERIFIED) == {"EER": "-", "TAR@FAR 0.01": "-", "rank-1": "75.0%"}


def test_rates_are_shown_with_their_thresholds() -> None:
    assert verification_headings(VERIFICATION) == [
        "EER", "TAR@FAR 0.1", "TAR@FAR 0.01", "TAR@FAR 0.001", "TAR@FAR 0.0001",
    ]  # fmt: skip
    assert verification_cells(VERIFICATION) == [
        "8.1% at 0.457",
        "95.0% at 0.400",
        "80.0% at 0.612",
        "-",
        "-",
    ]
    table = verification_table(report(UNVERIFIED, ROW))
    assert table is not None
    assert len(table.rows) == 1
    assert verification_table(report(UNVERIFIED)) is None


def test_the_line_below_the_table() -> None:
    assert "450 genuine and 4,500 impostor pairs of all test images" in describe_accuracy(
        report(ROW)
    )
    assert describe_accuracy(report(ROW, task="person")) == (
        "accuracy: cosine distance, Market-1501 protocol, faces, seed 3"
    )
    assert (
        "Market-1501 protocol (no cameras: images of the same camera are not dropped), faces"
        in describe_accuracy(report(ROW, task="person", has_cameras=False))
    )
    classic = report(ROW, task="person", protocol="single_gallery_shot")
    assert "classic CUHK03 protocol (one gallery image an identity)" in describe_accuracy(classic)

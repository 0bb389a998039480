"""What looking a data set over finds, and what it says."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from reid_edge.data.check_report import DataReport, ImageSizes, SplitCounts
from reid_edge.data.checking import check_data
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData, Sample

Paint = Callable[..., Path]


def look(folder: Path) -> DataReport:
    return check_data(read_market1501(folder))


def text(report: DataReport) -> str:
    console = Console(width=300, color_system=None)
    with console.capture() as capture:
        console.print(report)
    return capture.get()


def test_a_set_without_problems(market: Path) -> None:
    reported: list[tuple[int, int]] = []
    data = read_market1501(market)
    report = check_data(data, lambda done, total: reported.append((done, total)))
    assert report.splits == (
        SplitCounts("train", 4, 2, 3),
        SplitCounts("query", 2, 2, 2),
        SplitCounts("gallery", 3, 3, 2),
    )
    assert report.identities_by_camera == {1: (2, 1, 2), 2: (1, 1, 1), 3: (1, 0, 0)}
    assert (report.distractors, report.distractor_identities, report.junk) == (1, 1, 1)
    assert report.sizes == ImageSizes((4, 8), (5, 8), (5, 8), 2)
    assert report.problems() == []
    assert reported[-1] == (9, 9)
    shown = text(report)
    assert "distractors in the gallery: 1 images of 1 identities" in shown
    assert "junk, not read: 1 images of person -1" in shown
    assert "no problems found" in shown


def test_unreadable_images_are_named(market: Path) -> None:
    broken = market / "query" / "0001_c1s1_000005_00.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    empty = market / "bounding_box_train" / "0002_c1s1_000001_00.jpg"
    empty.write_bytes(b"")
    report = look(market)
    assert {found.path for found in report.unreadable} == {broken, empty}
    assert report.problems() == ["2 images cannot be read"]
    shown = text(report)
    assert f"{broken}: cannot be decoded (" in shown
    assert f"{empty}: cannot be decoded (" in shown


def test_an_image_too_large_to_decode(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 15)
    report = look(market)
    assert len(report.unreadable) == 9
    assert report.sizes is None
    assert "decompression bomb" in text(report)


def test_a_part_is_decoded_and_damaged_ends_are_found_all_the_same(market: Path) -> None:
    data = read_market1501(market)
    assert replace(check_data(data, decoded=1), apart=1) == check_data(data)
    # The first one is decoded. Of the third, the ends are in order.
    paths = sorted({image.path for image in read_market1501(market).images()})
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:100] + content[-2:])
    paths[1].write_bytes(content[:100])
    paths[2].write_bytes(content[:200] + b"?" * 40 + content[240:])
    whole, part = (check_data(read_market1501(market), decoded=n) for n in (9, 1))
    assert {found.path for found in part.unreadable} == {paths[0], paths[1]}
    assert {found.path for found in whole.unreadable} == {paths[0], paths[1], paths[2]}
    assert part.duplicates == whole.duplicates
    assert "one of 9 images was decoded; of the others, the whole file was hashed" in text(part)
    assert "was decoded" not in text(whole)


def test_the_same_image_in_training_and_test_set(market: Path) -> None:
    train = market / "bounding_box_train" / "0007_c1s1_000003_00.jpg"
    test = market / "bounding_box_test" / "0005_c1s1_000008_00.jpg"
    test.write_bytes(train.read_bytes())
    report = look(market)
    assert report.duplicates == ((train, test),)
    assert report.problems() == ["1 test images are training images too"]
    assert f"{test} is {train}" in text(report)


def test_identities_in_training_and_test_set(market: Path, paint: Paint) -> None:
    paint(market / "bounding_box_train" / "0005_c1s1_000020_00.jpg", 250)
    report = look(market)
    assert report.shared_identities == (5,)
    assert report.problems() == ["1 identities are in both training and test set"]


def test_queries_without_a_match_and_why(market: Path, paint: Paint) -> None:
    absent = paint(market / "query" / "0009_c1s1_000020_00.jpg", 250)
    same = market / "query" / "0005_c2s1_000006_00.jpg"
    gallery = market / "bounding_box_test"
    (gallery / "0005_c1s1_000008_00.jpg").rename(gallery / "0005_c2s1_000008_00.jpg")
    report = look(market)
    assert [(q.path, q.same_camera) for q in report.unmatched] == [(same, True), (absent, False)]
    assert report.problems() == []
    shown = text(report)
    assert f"{absent}: person 9 is not in the gallery" in shown
    assert f"{same}: the gallery has person 5 on the query's camera 2 alone" in shown


def test_what_a_reader_notes_is_shown(market: Path) -> None:
    data = replace(read_market1501(market), notes=("one camera is written '1' and '1.0'",))
    report = check_data(data)
    assert "one camera is written '1' and '1.0'\n" in text(report)
    assert not report.problems()


def test_no_query_has_a_match(market: Path) -> None:
    for split in ("query", "bounding_box_test"):
        for path in (market / split).iterdir():
            path.rename(path.with_name(path.name.replace("_c2s", "_c1s")))
    report = look(market)
    assert report.problems() == ["none of the 2 queries has a match on another camera"]
    assert "problem: none of the 2 queries" in text(report)


def test_training_set_alone_without_cameras(tmp_path: Path, paint: Paint) -> None:
    images = tuple(
        Sample(paint(tmp_path / f"{number}.png", number), number // 2, number % 2)
        for number in range(4)
    )
    report = check_data(ReidData(tmp_path, images, (), ()))
    shown = text(report)
    assert "these may be no real cameras" in shown
    assert "no query and no gallery: the set can be trained on, not evaluated" in shown
    assert report.problems() == []


def test_a_test_set_alone(market: Path) -> None:
    assert "no training images" not in text(look(market))
    shutil.rmtree(market / "bounding_box_train")
    report = look(market)
    assert report.problems() == []
    assert "no training images: the set can be evaluated, not trained on" in text(report)


def test_a_set_without_cameras(market: Path) -> None:
    shown = text(check_data(replace(read_market1501(market), has_cameras=False)))
    assert "no cameras: images of the same camera are not dropped" in shown
    assert "no cameras" not in text(look(market))


def test_one_image_in_query_and_gallery_is_read_once(tmp_path: Path, paint: Paint) -> None:
    images = tuple(Sample(paint(tmp_path / f"{n}.png", n), 1, n % 2) for n in range(4))
    reported: list[int] = []
    data = ReidData(tmp_path, (), images, images)
    report = check_data(data, lambda _done, total: reported.append(total))
    assert reported == [4, 4, 4, 4]
    assert not report.duplicates


def test_long_lists_are_cut_but_not_unreadable_images(tmp_path: Path) -> None:
    def images(start: int) -> tuple[Sample, ...]:
        return tuple(Sample(tmp_path / f"{n}.png", n, n) for n in range(start, start + 30))

    report = check_data(ReidData(tmp_path, (), images(0), images(100)))
    shown = text(report)
    assert "  and 20 more" in shown
    assert shown.count("no such image") == 60
    assert "60 cameras, too many to list" in shown

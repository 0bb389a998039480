"""What checking a set without identities finds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from reid_edge.cli.main import main
from reid_edge.data import unlabelled_check
from reid_edge.data.readers.unlabelled import read_tracklets, read_unlabelled
from reid_edge.data.schema import ReidData
from reid_edge.data.unlabelled_check import check_unlabelled, count_different, nearest_copies


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_data: ReidData) -> Path:
    """The tiny pedestrians as crops of tracks, with one of each fault."""
    root = tmp_path_factory.mktemp("crops")
    for number, image in enumerate([*tiny_data.train, *tiny_data.query, *tiny_data.gallery]):
        track = root / f"c{image.camera}_t{image.person}"
        track.mkdir(exist_ok=True)
        with Image.open(image.path) as opened:
            opened.save(track / f"{number:03d}.png")
    with Image.open(root / "c1_t2" / sorted((root / "c1_t2").iterdir())[0].name) as first:
        first.save(root / "c1_t2" / "again.jpg", quality=80)
        first.resize((12, 24)).filter(ImageFilter.UnsharpMask).save(root / "c1_t2" / "tiny.png")
    blurred = Image.effect_noise((32, 64), 60).filter(ImageFilter.GaussianBlur(6))
    (root / "c3_t99").mkdir()
    blurred.save(root / "c3_t99" / "blurred.png")
    (root / "c1_t2" / "broken.jpg").write_bytes(b"no image")
    return root


def test_faults_are_found(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    data = read_tracklets(folder)
    report = check_unlabelled(data, lambda done, total: seen.append((done, total)))
    assert report.images == len(data.train)
    assert seen[-1] == (report.images, report.images)
    assert [found.path.name for found in report.unreadable] == ["broken.jpg"]
    assert "tiny.png" in [path.name for path in report.small]
    assert "blurred.png" in [path.name for path in report.blurred]
    assert "again.jpg" in {path.name for pair in report.examples for path in pair}
    assert report.repeated >= 2
    assert report.different <= report.images - 2
    images_of_track = Counter(image.person for image in data.train).values()
    assert report.tracks == len(images_of_track)
    assert report.single == list(images_of_track).count(1) >= 1
    assert set(report.cameras) == {1, 2, 3}
    assert "1 images cannot be read" in report.problems()


def test_different_images_are_not_taken_for_copies() -> None:
    generator = np.random.default_rng(0)
    hashes = list(generator.integers(0, 256, (6, 32), dtype=np.uint8))
    assert nearest_copies(hashes) == [-1] * 6
    near = hashes[0].copy()
    near[3] ^= 0b101
    assert nearest_copies([*hashes, near]) == [6, -1, -1, -1, -1, -1, 0]
    # More images with one hash than are asked for.
    assert sorted(set(nearest_copies([hashes[0]] * 4))) == [0, 1]
    assert nearest_copies(hashes[:1]) == [-1]


def test_copies_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    shots = generator.integers(0, 256, (5, 32), dtype=np.uint8)
    # Each image differs by up to 12 bits from the shot that it is of, in any order.
    noise = np.packbits(generator.random((5 * 40, 256)) < 0.03, axis=1)
    images = list(np.repeat(shots, 40, axis=0) ^ noise)
    generator.shuffle(images)
    for chunk in (7, 1024):
        monkeypatch.setattr(unlabelled_check, "CHUNK", chunk)
        assert count_different(images) == 5
    assert count_different([]) == 0


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder), "--as", "tracklets"]) == 1
    shown = capsys.readouterr().out
    assert "images without identities" in shown
    assert "tracks: " in shown
    assert "problem: 1 images cannot be read" in shown
    for number in range(70):
        Image.new("RGB", (32, 64), (9, 9, 9)).save(tmp_path / f"{number}.png")
    report = check_unlabelled(read_unlabelled(tmp_path))
    assert (report.repeated, report.different) == (70, 1)
    assert report.problems() == ["1 different images, of 70; a run needs 64 or more"]

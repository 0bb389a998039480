"""Synthetic pedestrians walk: the layout, the seed, and what happens in a sequence."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.data.synthetic import MotSettings, write_synthetic_mot
from reid_edge.data.synthetic.street import make_street
from reid_edge.tracking.association import box_overlaps
from reid_edge.tracking.gap_curve import identities_of
from reid_edge.tracking.mot_folder import MotSequence, read_mot_folder

# Small, and as long as a sequence by default, which is cheap as long as no frame is drawn.
LONG = MotSettings(width=128, height=72, frames=300)


@pytest.fixture(scope="module")
def sequences(tiny_mot: Path) -> list[MotSequence]:
    return read_mot_folder(tiny_mot)


def test_the_layout(tiny_mot: Path, sequences: list[MotSequence]) -> None:
    assert [sequence.name for sequence in sequences] == ["SYN-01", "SYN-02"]
    for sequence in sequences:
        assert (sequence.length, sequence.frame_rate) == (40, 4)
        assert sorted(sequence.images) == list(range(1, 41))
        with Image.open(sequence.images[7]) as image:
            assert (image.size, image.format) == ((128, 72), "JPEG")
        info = (sequence.folder / "seqinfo.ini").read_text().splitlines()
        assert info[0] == "[Sequence]"
        assert "imWidth=128" in info
        line = (sequence.folder / "gt" / "gt.txt").read_text().splitlines()[0].split(",")
        assert (len(line), line[6], line[7]) == (9, "1", "1")
        line = (sequence.folder / "det" / "det.txt").read_text().splitlines()[0].split(",")
        assert (len(line), line[1], line[7:]) == (10, "-1", ["-1", "-1", "-1"])
        assert set(sequence.truth.identities) <= set(range(1, 6))
    manifest = json.loads((tiny_mot / "synthetic.json").read_text())
    assert manifest["settings"]["persons"] == 5
    assert manifest["images"] == {"SYN-01/img1": 40, "SYN-02/img1": 40}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = MotSettings(cameras=1, persons=3, frames=3, width=64, height=48)
    folders = [tmp_path / name for name in ("one", "two", "other")]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        write_synthetic_mot(folder, replace(settings, seed=seed))
    one, two, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert len(one) == 3 + 4  # frames; seqinfo.ini, det.txt, gt.txt, synthetic.json
    assert one == two
    assert all(one[path] != other[path] for path in one if path.suffix == ".jpg")


def test_a_frame_depends_on_no_other_frame_and_no_other_camera() -> None:
    settings = replace(LONG, cameras=1)
    image, seen = make_street(replace(settings, cameras=5), 0).draw(100)
    again, as_before = make_street(settings, 0).draw(100)
    assert np.array_equal(np.asarray(image), np.asarray(again))
    assert seen == as_before
    assert len(seen) >= 2


def test_detections_are_a_little_off_and_miss_who_is_hidden(sequences: list[MotSequence]) -> None:
    found = persons = 0
    for sequence in sequences:
        identities = identities_of(sequence, sequence.detections)
        found += int((identities > 0).sum())
        persons += len(sequence.truth)
        # False detections are few.
        assert (identities < 0).mean() < 0.2
        boxes = sequence.detections.boxes
        assert (boxes.min() >= -0.01) & (boxes[:, [0, 2]].max() <= 128.01)
    assert 0.5 * persons < found < persons


def test_persons_cross_hide_and_come_back() -> None:
    """What a tracker finds hard happens in every sequence."""
    for number in range(LONG.cameras):
        street = make_street(LONG, number)
        came_back = turned = 0
        for passer in street.passers:
            there = [passer.walk.at(frame / LONG.frame_rate) for frame in range(LONG.frames)]
            seen = [moment is not None for moment in there]
            came_back += sum(a and not b for a, b in zip(seen[1:], seen, strict=False)) > 1
            steps = np.diff([moment.across for moment in there if moment is not None])
            turned += (steps[np.abs(steps) < 1] > 0.01).any() & (steps < -0.01).any()
        assert came_back >= 4
        assert turned >= 2
        hidden: set[int] = set()
        crossed = 0
        for frame in range(0, LONG.frames, 10):
            _, seen_now = street.draw(frame)
            hidden |= {one.number for one in seen_now if one.visibility < 0.25}
            boxes = np.array([one.box for one in seen_now]).reshape(-1, 4)
            overlaps = np.triu(box_overlaps(boxes, boxes), 1)
            crossed += int((overlaps > 0.3).sum())
        assert len(hidden) >= 3
        assert crossed >= 3


def test_what_is_there_already(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = MotSettings(cameras=1, persons=1, frames=2, width=64, height=48)
    folder = tmp_path / "new"
    progress: list[tuple[int, int]] = []
    write_synthetic_mot(folder, settings, lambda *pair: progress.append(pair))
    assert progress == [(1, 2), (2, 2)]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with caplog.at_level("INFO", logger="reid_edge"):
        write_synthetic_mot(folder, settings)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(
        DataError, match=r"made with other settings \(seed 0, not 1\): name another"
    ):
        write_synthetic_mot(folder, replace(settings, seed=1))
    (folder / "SYN-01" / "img1" / "000001.jpg").unlink()
    with pytest.raises(DataError, match="has 1 of its 2 images"):
        write_synthetic_mot(folder, settings)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(DataError, match="holds something other than synthetic images"):
        write_synthetic_mot(tmp_path / "other", settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 1}, "frames must be 2 to 99999, not 1"),
        ({"persons": 0}, "persons must be 1 to 999, not 0"),
        ({"width": True}, "width must be a whole number: True"),
        ({"seed": -1}, "seed must be 0 to"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MotSettings(**changes)

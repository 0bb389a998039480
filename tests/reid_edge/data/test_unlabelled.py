"""Images without identities: tracks, cameras and frames in the names, and what is set apart."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.held_out import FEWEST_HELD_OUT, hold_out
from reid_edge.data.prepare import prepare
from reid_edge.data.readers.unlabelled import read_tracklets, read_unlabelled
from reid_edge.data.schema import Labels, ReidData, Sample, check_evaluable
from reid_edge.data.sources import recognise_sources

Paint = Callable[..., Path]


def painted(root: Path, paint: Paint, names: Sequence[str]) -> Path:
    for number, name in enumerate(names):
        paint(root / name, number)
    return root


def samples(data: ReidData) -> dict[str, tuple[int, int, int | None]]:
    return {
        image.path.relative_to(data.root).as_posix(): (image.person, image.camera, image.frame)
        for image in data.train
    }


def test_images_at_any_depth_without_anything_known(tmp_path: Path, paint: Paint) -> None:
    root = painted(tmp_path, paint, ["a.jpg", "b/c/d.png", "b/.hidden/e.jpg", "b/notes.webp"])
    (root / "b" / "list.txt").touch()
    data = read_unlabelled(root)
    assert samples(data) == {"a.jpg": (0, 0, None), "b/c/d.png": (0, 0, None),
                             "b/notes.webp": (0, 0, None)}  # fmt: skip
    assert (data.labels, data.has_cameras, data.query, data.gallery) == ("none", False, (), ())


def test_images_of_other_kinds_are_counted(tmp_path: Path, paint: Paint) -> None:
    root = painted(tmp_path, paint, ["t1_a.jpg", "t1_b.jpg"])
    for name in ("a.HEIC", "b.gif", "notes.txt"):
        (root / name).write_bytes(b"other")
    for read in (read_unlabelled, read_tracklets):
        assert read(root).notes == (
            "2 images are not read, because they are .gif, .heic; convert them to .jpg",
        )


def test_cameras_and_frames_of_unlabelled_images(tmp_path: Path, paint: Paint) -> None:
    root = painted(tmp_path, paint, ["cam2/x_f0010.jpg", "cam2/x_f0011.jpg", "y_c3_f7.jpg"])
    data = read_unlabelled(root)
    assert samples(data) == {"cam2/x_f0010.jpg": (0, 2, 10), "cam2/x_f0011.jpg": (0, 2, 11),
                             "y_c3_f7.jpg": (0, 3, 7)}  # fmt: skip
    assert data.has_cameras
    paint(root / "z_f8.jpg", 99)
    data = read_unlabelled(root)
    assert {image.camera for image in data.train} == {0}
    assert data.notes == (
        "3 of 4 images have a camera in their names, so it is not used; give all or none",
    )


@pytest.mark.parametrize(
    ("names", "tracks"),
    [
        (["7/a.jpg", "7/b.jpg", "x/8/a.jpg"], [0, 0, 1]),
        (["c1_t2_f1.jpg", "c1_t2_f2.jpg", "c1_t30_f1.jpg"], [0, 0, 1]),
        (["0001C1T0001F001.jpg", "0001C1T0001F002.jpg", "0001C1T0002F001.jpg"], [0, 0, 1]),
        (["c1_t2_f1.jpg", "c1_t002_f2.jpg", "c1_t10_f1.jpg"], [0, 0, 1]),
        (["t2_a.jpg", "t2_b.jpg", "t10_a.jpg"], [1, 1, 0]),  # in the order of the texts
        # Folders are tracks; the names count time.
        (["7/t0001.jpg", "7/t0002.jpg", "8/t0001.jpg"], [0, 0, 1]),
        (["7/c1_t7_f1.jpg", "7/c1_t7_f2.jpg", "8/a.jpg"], [0, 0, 1]),
        # One track in two folders is two tracks: of two videos.
        (["day1/t4_f1.jpg", "day1/t4_f2.jpg", "day2/t4_f1.jpg"], [0, 0, 1]),
    ],
)
def test_tracks(names: list[str], tracks: list[int], tmp_path: Path, paint: Paint) -> None:
    data = read_tracklets(painted(tmp_path, paint, names))
    assert data.labels == "tracks"
    assert [samples(data)[name][0] for name in names] == tracks


def test_frames_of_recordings_are_different(tmp_path: Path, paint: Paint) -> None:
    names = ["day1/c1_t1_f5.jpg", "day1/c1_t1_f6.jpg", "day1/c1_t2_f6.jpg", "day2/c1_t1_f5.jpg"]
    found = samples(read_tracklets(painted(tmp_path, paint, names)))
    assert [found[name] for name in names] == [(0, 1, 5), (0, 1, 6), (1, 1, 6), (2, 1, 7 + 5)]


def test_times_of_the_calendar_are_frames(tmp_path: Path, paint: Paint) -> None:
    days = (20261001093015123456, 20261001093015223456, 20261001093015323456)
    names = [f"c1_t{1 + place // 2}_f{day}.jpg" for place, day in enumerate(days)]
    found = samples(read_tracklets(painted(tmp_path, paint, names)))
    assert [found[name] for name in names] == [(0, 1, 0), (0, 1, 100000), (1, 1, 200000)]
    # As many recordings as do not fit into 64 bits if their frames count from 1970.
    nanoseconds = [f"day{day}/c1_t{day}_f{1790000000 + day}{10**9 + part}.jpg"
                   for day in range(1, 9) for part in (5, 7)]  # fmt: skip
    found = samples(read_tracklets(painted(tmp_path / "days", paint, nanoseconds)))
    assert [found[name][2] for name in nanoseconds] == [
        3 * day + part for day in range(8) for part in (0, 2)
    ]
    painted(tmp_path, paint, [f"c1_t2_f{'9' * 30}.jpg"])
    with pytest.raises(DataError, match=r"the frames in the names are too far apart, \d+ in all"):
        read_tracklets(tmp_path)


def test_a_camera_is_a_number_that_can_be_kept(tmp_path: Path, paint: Paint) -> None:
    largest = 2**63 - 1
    names = [f"c{largest}_t1_a.jpg", f"c{largest}_t1_b.jpg"]
    assert {one.camera for one in read_tracklets(painted(tmp_path, paint, names)).train} == {
        largest
    }
    root = painted(tmp_path, paint, [f"c{largest + 1}_t1_c.jpg"])
    for read in (read_unlabelled, read_tracklets):
        with pytest.raises(
            DataError, match=rf"_c\.jpg: camera {largest + 1}; expected a number up"
        ):
            read(root)


def test_frames_within_tracks_are_not_used(tmp_path: Path, paint: Paint) -> None:
    names = [f"c1_t{track}/f{frame}.jpg" for track in (1, 2) for frame in (1, 2)]
    data = read_tracklets(painted(tmp_path, paint, names))
    assert {image.frame for image in data.train} == {None}
    assert data.notes == (
        "2 of 2 tracks begin at one frame, so frames seem to count within a track and are not used",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images in it"),
        (["a.jpg", "7/b.jpg"], r"a\.jpg: neither in the folder of a track nor with a track"),
        (["7/a.jpg", "8/b.jpg"], "each of the 2 tracks has one image"),
        (
            ["7/t1_a.jpg", "7/t1_b.jpg", "7/t2_a.jpg", "8/odd.jpg"],
            r"odd\.jpg: has no track such as",
        ),
        (["7/c1_1.jpg", "7/c2_1.jpg"], "its track has images of 2 cameras"),
    ],
)
def test_what_are_no_tracks(names: list[str], message: str, tmp_path: Path, paint: Paint) -> None:
    with pytest.raises(DataError, match=message):
        read_tracklets(painted(tmp_path, paint, names))


def test_what_needs_identities_says_so(tmp_path: Path, paint: Paint) -> None:
    root = painted(tmp_path / "own", paint, ["a.jpg", "b.jpg"])
    with pytest.raises(DataError, match="have no identities, so that no accuracy can be measured"):
        check_evaluable(read_unlabelled(root))
    with pytest.raises(DataError, match=r"no identities to write; .* data.format=unlabelled"):
        prepare("unlabelled", root, tmp_path / "out")
    with pytest.raises(DataError, match=r"name one of .*, unlabelled, tracklets, folders"):
        recognise_sources(root)


def unlabelled(count: int, labels: Labels = "none", images_of_track: int = 1) -> ReidData:
    """Images in the order of time, so many of each track in turn."""
    root = Path("/images")
    train = tuple(
        Sample(root / f"{number}.jpg", number // images_of_track, 1) for number in range(count)
    )
    return ReidData(root, train, (), (), labels=labels)


def test_blocks_are_set_apart() -> None:
    data = hold_out(unlabelled(400), 0.2, seed=1)
    assert (len(data.train), len(data.query), data.gallery) == (320, 80, ())
    apart = {image.person for image in data.query}
    # Numbers are in order of value, so at most two images of a block have a neighbour outside.
    borders = [number for number in range(399) if (number in apart) != (number + 1 in apart)]
    assert len(borders) <= 16
    assert hold_out(unlabelled(400), 0.2, seed=1) == data
    assert hold_out(unlabelled(400), 0.2, seed=2).query != data.query


def test_tracks_are_set_apart_as_a_whole() -> None:
    data = hold_out(unlabelled(400, "tracks", 5), 0.2, seed=1)
    assert len(data.query) == 80
    assert set(Counter(image.person for image in data.query).values()) == {5}
    assert not {image.person for image in data.query} & {image.person for image in data.train}


def test_no_more_than_can_be_compared_are_set_apart() -> None:
    data = hold_out(unlabelled(10_000), 0.9, seed=0)
    assert 5000 <= len(data.query) < 5800
    assert len(data.train) + len(data.query) == 10_000


def test_too_few_images() -> None:
    with pytest.raises(DataError, match=r"/images: 63 images; .* 64 different images or more"):
        hold_out(unlabelled(63), 0.2, seed=0)
    data = hold_out(unlabelled(64), 0.2, seed=0)
    assert len(data.query) == FEWEST_HELD_OUT
    with pytest.raises(DataError, match=r"each part needs 16: give data.test_share another"):
        hold_out(unlabelled(64), 0.1, seed=0)

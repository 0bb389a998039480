"""Crops of a video by the boxes of a tracker."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_edge.cli.main import main
from reid_edge.core.errors import DataError
from reid_edge.data.prepare.video_crops import CropCounts, prepare_crops
from reid_edge.data.readers.unlabelled import read_tracklets, read_unlabelled
from reid_edge.data.sources import recognise_sources

needs_opencv = pytest.mark.skipif(
    importlib.util.find_spec("cv2") is None, reason="the extra video is not installed"
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of 64 x 48 pixels, each of its own shade."""
    folder = tmp_path_factory.mktemp("frames") / "img1"
    folder.mkdir()
    for number in range(1, 9):
        Image.new("RGB", (64, 48), (20 * number, 0, 0)).save(folder / f"{number:06d}.png")
    return folder


def boxes(folder: Path, *lines: str) -> Path:
    path = folder / "boxes.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_crops_of_tracks(frames: Path, tmp_path: Path) -> None:
    lines = [f"{frame},{track},{1 + 20 * track},1,16,32,1,1,1" for frame in (2, 3, 5)
             for track in (0, 1)]  # fmt: skip
    ignored = ("2,7,1,1,16,32,0,1,1", "2,8,1,1,16,32,1,3,1")  # does not count, is no pedestrian
    target = tmp_path / "out"
    made = prepare_crops(frames, boxes(tmp_path, *lines, *ignored), target, camera=4)
    assert made == CropCounts(6, 2, 0, "tracklets")
    data = read_tracklets(target)
    assert [(one.path.name, one.person, one.camera, one.frame) for one in data.train[:2]] == [
        ("c04_t0000_f000002.jpg", 0, 4, 2), ("c04_t0000_f000003.jpg", 0, 4, 3)
    ]  # fmt: skip
    with Image.open(data.train[0].path) as crop:
        assert crop.size == (16, 32)
        assert np.abs(np.asarray(crop)[..., 0].astype(int) - 40).max() <= 2
    assert recognise_sources(target) == ["tracklets"]
    # The same command again does nothing; another one does not write over it.
    assert prepare_crops(frames, tmp_path / "boxes.txt", target, camera=4) is None
    with pytest.raises(DataError, match="holds something else; remove it or give another folder"):
        prepare_crops(frames, tmp_path / "boxes.txt", target, camera=5)
    boxes(tmp_path, *lines[:-1])
    with pytest.raises(DataError, match="holds something else; remove it or give another folder"):
        prepare_crops(frames, tmp_path / "boxes.txt", target, camera=4)


def test_boxes_that_are_all_too_small(frames: Path, tmp_path: Path) -> None:
    given = boxes(tmp_path, *(f"{frame},1,1,1,4,8,1" for frame in (1, 2)))
    with pytest.raises(DataError, match=r"each of the 2 boxes has less than 8 x 16 pixels of a fr"):
        prepare_crops(frames, given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_boxes_without_tracks_and_every_other_frame(frames: Path, tmp_path: Path) -> None:
    given = boxes(tmp_path, *(f"{frame},-1,1,1,16,32,0.9" for frame in (1, 1, 2, 4, 6)))
    made = prepare_crops(frames, given, tmp_path / "out", every=2)
    assert made == CropCounts(3, 0, 0, "unlabelled")
    names = [image.path.name for image in read_unlabelled(tmp_path / "out").train]
    assert names == ["c01_f000001_00.jpg", "c01_f000001_01.jpg", "c01_f000004_00.jpg"]
    assert recognise_sources(tmp_path / "out") == ["unlabelled"]


def test_every_other_box_of_a_track(frames: Path, tmp_path: Path) -> None:
    lines = [f"{frame},1,1,1,16,32,1" for frame in (1, 2, 3)]
    lines += [f"{frame},2,1,1,16,32,1" for frame in (2, 3, 4)]
    prepare_crops(frames, boxes(tmp_path, *lines), tmp_path / "out", every=2)
    found = [(one.person, one.frame) for one in read_tracklets(tmp_path / "out").train]
    assert found == [(0, 1), (0, 3), (1, 2), (1, 4)]


def test_boxes_are_cut_off_at_the_border(frames: Path, tmp_path: Path) -> None:
    inside = [f"{frame},1,50,1,40,200,1" for frame in range(1, 9)]
    outside = [f"{frame},2,1,1,16,32,1" for frame in range(1, 9)] + ["8,3,70,1,16,32,1"]
    made = prepare_crops(frames, boxes(tmp_path, *inside, *outside), tmp_path / "out")
    assert made == CropCounts(16, 3, 1, "tracklets")
    with Image.open(read_tracklets(tmp_path / "out").train[0].path) as crop:
        assert crop.size == (15, 48)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1,1,70,1,16,32,1", "2,1,1,1,16,32,1"],
         r"1 of 2 boxes are outside the frames, the first: frame 1 of 64 x 48, box 69, 0, 85, 32"),
        (["9,1,1,1,16,32,1", "12,1,1,1,16,32,1"], "img1: has no frame 9, but there are boxes of it "
         "and of 1 more"),
        (["1,1,1,1,16,32,1", "1,1,9,1,16,32,1"], "track 1 has two boxes in frame 1"),
        (["1,1,1,1,16,32,0"], "no box of a pedestrian that counts"),
        (["1,1,1,1"], "line 1: expected frame,id,left,top,width,height,confidence"),
    ],
)  # fmt: skip
def test_boxes_of_another_video(
    lines: list[str], message: str, frames: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        prepare_crops(frames, boxes(tmp_path, *lines), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["boxes.txt"]


def test_boxes_without_a_track_among_others_are_left_out(
    frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = boxes(tmp_path, "1,1,1,1,16,32,1", "2,1,1,1,16,32,1", "2,-1,9,1,16,32,1")
    assert prepare_crops(frames, given, tmp_path / "out") == CropCounts(2, 1, 0, "tracklets")
    assert "1 boxes without a track are left out, others have one" in caplog.text


def test_boxes_that_do_not_count_are_counted(
    frames: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    others = ("2,7,1,1,16,32,0", "2,8,1,1,16,32,1,3")  # does not count, is no pedestrian
    given = boxes(tmp_path, "1,1,1,1,16,32,1", *others)
    assert prepare_crops(frames, given, tmp_path / "out") == CropCounts(1, 1, 0, "tracklets")
    assert "2 of 3 boxes do not count and are left out (confidence 0, or a class" in caplog.text


def test_frames_that_changed_are_something_else(frames: Path, tmp_path: Path) -> None:
    copies = shutil.copytree(frames, tmp_path / "img1")
    given, target = boxes(tmp_path, "1,1,1,1,16,32,1"), tmp_path / "out"
    assert prepare_crops(copies, given, target) is not None
    (copies / "thumb.png").write_bytes(b"no frame")
    assert prepare_crops(copies, given, target) is None
    Image.new("RGB", (64, 48)).save(copies / "000001.png")
    with pytest.raises(DataError, match=r"out: holds what was prepared from .* its frames changed"):
        prepare_crops(copies, given, target)
    # Earlier versions did not write the state of the frames.
    made = json.loads((target / "prepared.json").read_text())
    del made["source"]["frames"]
    (target / "prepared.json").write_text(json.dumps(made))
    assert prepare_crops(copies, given, target) is None


def test_frames_that_are_gone_are_prepared_still(frames: Path, tmp_path: Path) -> None:
    copies = shutil.copytree(frames, tmp_path / "img1")
    given, target = boxes(tmp_path, "1,1,1,1,16,32,1"), tmp_path / "out"
    assert prepare_crops(copies, given, target) is not None
    shutil.rmtree(copies)
    assert prepare_crops(copies, given, target) is None


def test_a_frame_is_there_once(frames: Path, tmp_path: Path) -> None:
    copies = shutil.copytree(frames, tmp_path / "img1")
    shutil.copy(copies / "000003.png", copies / "3.png")
    with pytest.raises(DataError, match=r"3\.png: is frame 3, as 000003\.png is; keep one of"):
        prepare_crops(copies, boxes(tmp_path, "1,1,1,1,16,32,1"), tmp_path / "out")


def test_boxes_are_not_read_from_a_fifo(frames: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "boxes.txt")
    with pytest.raises(DataError, match=r"boxes\.txt: is a FIFO; expected a file"):
        prepare_crops(frames, tmp_path / "boxes.txt", tmp_path / "out")


@needs_opencv
def test_a_video_is_decoded(frames: Path, tmp_path: Path) -> None:
    import cv2

    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for path in sorted(frames.iterdir()):
        writer.write(cv2.imread(str(path)))
    writer.release()
    given = boxes(tmp_path, "3,1,1,1,16,32,1", "7,1,1,1,16,32,1")
    prepare_crops(video, given, tmp_path / "out")
    shades = []
    for image in read_tracklets(tmp_path / "out").train:
        with Image.open(image.path) as crop:
            shades.append(np.asarray(crop)[..., 0].mean())
    assert shades == pytest.approx([60, 140], abs=6)
    with pytest.raises(DataError, match="has no frame 9"):
        prepare_crops(video, boxes(tmp_path, "9,1,1,1,16,32,1"), tmp_path / "other")
    video.write_bytes(b"no video")
    with pytest.raises(DataError, match=r"video\.avi: OpenCV cannot decode it as a video"):
        prepare_crops(video, given, tmp_path / "other")


def test_without_opencv_a_video_needs_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video.mp4").write_bytes(b"some")
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(DataError, match=r"video\.mp4: needs the package cv2: pip install"):
        prepare_crops(tmp_path / "video.mp4", boxes(tmp_path, "1,1,1,1,16,32,1"), tmp_path / "out")


def test_the_command(tiny_mot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence = tiny_mot / "SYN-01"
    target = tmp_path / "crops"
    given = ["prepare", "--video", str(sequence / "img1"), "--boxes", str(sequence / "gt/gt.txt")]
    assert main([*given, "--to", str(target), "--every", "2"]) == 0
    assert "tracks, for data.format=tracklets" in capsys.readouterr().out
    assert json.loads((target / "prepared.json").read_text())["data_set"] == "video"
    main(["check", str(target)])
    assert "read as tracklets" in capsys.readouterr().out
    # Two cameras of a place in one folder.
    shutil.move(target, tmp_path / "place" / "one")
    assert main([*given, "--to", str(tmp_path / "place" / "two"), "--camera", "2"]) == 0
    assert {image.camera for image in read_tracklets(tmp_path / "place").train} == {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--video", "v.mp4"], "--video v.mp4 needs --boxes FILE"),
        (["--video", "v.mp4", "--boxes", "b.txt"], "b.txt: cannot be read"),
        (["market1501", "--video", "v.mp4"], "market1501 does not go with --video"),
        (["--video", "v.mp4", "--max-ids", "2"], "--max-ids does not go with --video"),
        (["market1501", "--boxes", "b.txt"], "--boxes is for --video"),
        ([], "give the name of a data set, or a video with --video and --boxes"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *arguments]) == 2
    assert message in capsys.readouterr().err

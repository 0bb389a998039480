"""MOTChallenge folders: what is read, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pytest

from reid_edge.core.errors import DataError
from reid_edge.tracking.mot_folder import read_mot_folder, read_sequence
from tests.reid_edge.tracking.sequences import LEFT, swapped_places, write_sequence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return swapped_places(tmp_path / "HAND-01")


def test_a_sequence(folder: Path) -> None:
    (sequence,) = read_mot_folder(folder)
    assert (sequence.name, sequence.length, sequence.frame_rate) == ("HAND-01", 12, 10)
    assert len(sequence.truth) == len(sequence.detections) == 16
    assert sequence.truth.places(2) == slice(2, 4)
    assert sequence.truth.places(5) == slice(8, 8)
    # Pixels are counted from 1 in the file, and from 0 here.
    assert sequence.truth.boxes[0].tolist() == [4, 8, 20, 40]
    assert sequence.truth.identities[:4].tolist() == [1, 2, 1, 2]
    assert set(sequence.detections.identities) == {-1}
    assert sequence.images[12].name == "000012.png"
    assert len(sequence.detections.above(0.9)) == 16
    assert len(sequence.detections.above(0.91)) == 0


def test_sequences_in_the_order_of_their_names(folder: Path) -> None:
    write_sequence(folder.parent / "A", 3, [(2, 1, *LEFT, 1, 1, 1)], [(3, -1, *LEFT, 1)])
    (folder.parent / "A" / "img1").mkdir()
    (folder.parent / "A" / "img1" / "00000003.png").touch()  # eight digits, as DanceTrack has
    names = [sequence.name for sequence in read_mot_folder(folder.parent)]
    assert names == ["A", "HAND-01"]


def test_lines_may_be_in_any_order(folder: Path) -> None:
    before = read_sequence(folder)
    for name in ("gt", "det"):
        path = folder / name / f"{name}.txt"
        # The order within a frame stays.
        lines = sorted(path.read_text().splitlines(), key=lambda line: -int(line.split(",")[0]))
        path.write_text("\n".join(["", *lines, ""]))
    after = read_sequence(folder)
    assert np.array_equal(after.truth.boxes, before.truth.boxes)
    assert np.array_equal(after.detections.frames, before.detections.frames)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("seqinfo.ini", "[Other]\n", r"seqinfo\.ini: has no Sequence"),
        ("seqinfo.ini", "[Sequence]\nframeRate=5\n", r"seqinfo\.ini: has no seqLength"),
        ("seqinfo.ini", "[Sequence]\nseqLength=x\n", r"seqinfo\.ini: not as MOTChallenge writes"),
        ("seqinfo.ini", "seqLength", r"seqinfo\.ini: not as MOTChallenge writes it \(File"),
        ("seqinfo.ini", "[Sequence]\nseqLength=0\n", r"seqinfo\.ini: 0 frames at 30 a second"),
        ("seqinfo.ini", "[Sequence]\nseqLength=9\nimDir=../..\n", r"imDir '\.\./\.\.'"),
        ("seqinfo.ini", "[Sequence]\nseqLength=9\nimDir=..\n", r"imDir '\.\.'"),
        ("seqinfo.ini", "[Sequence]\nseqLength=12\nimDir=img2\n", r"img2: cannot be read"),
        ("seqinfo.ini", "[Sequence]\nseqLength=99999999\n", "99999999 frames at 30 a second"),
        ("det/det.txt", "1,-1,1e9,5,9,9,1\n", r"line 1: a box of 9 x 9 pixels at 1e\+09, 5"),
        ("gt/gt.txt", "1,1e9,5,5,9,9,1,1\n", r"line 1: identity 1e\+09; expected up to 1000000"),
        ("gt/gt.txt", "1,0.5,5,5,9,9,1,1\n", r"line 1: identity 0\.5; expected up to 1000000"),
        ("det/det.txt", "", r"det\.txt: has no boxes"),
        ("det/det.txt", "1,-1,5\n", r"det\.txt: line 1: expected frame,id,left,top,width,height,c"),
        ("det/det.txt", "1,-1,5,5,9,9,1\n\n1,a\n", r"det\.txt: line 3 is not numbers with commas"),
        ("det/det.txt", "1,-1,,5,5,9,9,1\n", r"det\.txt: line 1 is not numbers with commas"),
        ("det/det.txt", "1,-1,5,5,9,9,\n", r"det\.txt: line 1: expected frame,id,left,top,width"),
        ("det/det.txt", "1,-1,nan,5,9,9,1\n", r"det\.txt: line 1: expected frame"),
        ("det/det.txt", "13,-1,5,5,9,9,1\n", r"det\.txt: line 1: frame 13 of 12"),
        ("det/det.txt", "0,-1,5,5,9,9,1\n", r"det\.txt: line 1: frame 0 of 12"),
        ("det/det.txt", "1,-1,5,5,0,9,1\n", r"det\.txt: line 1: a box of 0 x 9 pixels"),
        ("gt/gt.txt", "1,1,5,5,9,9,1\n", r"gt\.txt: line 1: expected frame,.*,class"),
        ("gt/gt.txt", "1,-1,5,5,9,9,1,1\n", r"gt\.txt: a box has no identity"),
        ("gt/gt.txt", "1,1,5,5,9,9,1,1\n1,1,6,5,9,9,1,1\n", "an identity has two boxes in one fr"),
    ],
)
def test_files_that_are_refused(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_mot_folder(folder)
    assert "\n" not in str(caught.value)


def test_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_mot_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"gt: no sequence in the MOTChallenge layout; expected"):
        read_mot_folder(folder / "gt")
    (folder / "img1" / "000003.png").unlink()
    with pytest.raises(DataError, match=r"img1: no image of frame 3; expected 000003\.png"):
        read_mot_folder(folder)
    (folder / "det" / "det.txt").unlink()
    with pytest.raises(DataError, match=r"det\.txt: cannot be read \(No such file"):
        read_mot_folder(folder)

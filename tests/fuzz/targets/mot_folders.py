"""Sequences in the MOTChallenge layout."""

from pathlib import Path

from hypothesis import strategies as st

from reid_edge.tracking.association import associate
from reid_edge.tracking.gap_curve import gap_curve, identities_of
from reid_edge.tracking.mot_folder import read_mot_folder
from tests.fuzz.target import Target

NUMBER = st.one_of(
    st.sampled_from([
        "1", "2", "3", "0", "-1", "1.5", "9", "40", "1e3", "1e308", "-1e308", "nan", "inf", "", " ",
        "0x1", "1_0", "\u0661", "a",
    ]),
    st.integers(-5, 50).map(str),
)  # fmt: skip
WHOLE = st.tuples(
    *(st.integers(1, 3).map(str),) * 2, *(st.integers(1, 50).map(str),) * 4, *(st.just("1"),) * 3
).map(",".join)
LINE = WHOLE | WHOLE | WHOLE | st.lists(NUMBER, min_size=6, max_size=10).map(",".join)
BOXES = st.lists(LINE, max_size=6).map(lambda lines: "\n".join(lines).encode())
VALUE = st.sampled_from(
    ["3", "0", "-1", "1e9", "10" * 9, "img1", "..", "a/b", ".jpg", "*", "\0", "%"]
)
KEY = st.sampled_from(["seqLength", "frameRate", "imDir", "imExt", "name", "[Sequence]", "[x]"])
INFO = st.lists(st.tuples(KEY, st.sampled_from(["=", ":", "", "\n"]), VALUE).map("".join)).map(
    lambda lines: "\n".join(["[Sequence]", "seqLength=3", *lines]).encode()
)
PLAIN = {
    "seqinfo.ini": b"[Sequence]\nseqLength=3\n",
    "det/det.txt": b"1,-1,5,5,9,9,1\n1,-1,30,5,9,9,1\n3,-1,30,5,9,9,1\n",
    "gt/gt.txt": b"1,1,5,5,9,9,1,1,1\n1,2,30,5,9,9,1,1,1\n3,1,5,5,9,9,1,1,1\n",
}


def run(files: dict[str, bytes], folder: Path) -> None:
    """Read the sequence, and track by overlap."""
    for name, content in (PLAIN | files).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "img1").mkdir()
    for frame in (1, 2, 3):
        (folder / "img1" / f"{frame:06d}.jpg").touch()
    for sequence in read_mot_folder(folder):
        identities = identities_of(sequence, sequence.detections)
        associate(sequence.detections)
        gap_curve([sequence.detections], [identities], None)


TARGET = Target(
    "MOTChallenge folder",
    st.fixed_dictionaries(
        {},
        optional={
            "seqinfo.ini": INFO | st.binary(max_size=40),
            "det/det.txt": BOXES | st.binary(max_size=40),
            "gt/gt.txt": BOXES | st.binary(max_size=40),
        },
    ),
    run,
    known=(
        {},
        {"det/det.txt": b"1,-1,1e308,5,9,9,1\n1,-1,5,5,1e308,9,1\n"},
        {"gt/gt.txt": b"1,1e18,5,5,9,9,1,1\n"},
        {"gt/gt.txt": b"1,1,5,5,9,9,1,1e308\n"},
        {"seqinfo.ini": b"[Sequence]\nseqLength=" + b"9" * 5000},
        {"seqinfo.ini": b"[Sequence]\nseqLength=3\nimDir=\0\n"},
        {"seqinfo.ini": b"[Sequence]\nseqLength=3\nimExt=.[\n"},
        {"seqinfo.ini": b"\xff\xfe[Sequence]"},
        {"det/det.txt": b"\xff\xff,1\n"},
    ),
)

"""CUHK03: extraction, both protocols, and torchreid's folders."""

import contextlib
import json
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from reid_edge.core.errors import DataError
from reid_edge.data.readers.cuhk03 import read_cuhk03, read_cuhk03_classic

# Pair of cameras, person, and which of the ten images there are.
PERSONS = {(1, 1): (1, 2, 6), (1, 2): (1, 6), (2, 1): (3, 8)}
NAMES = [
    "1_001_1_01.png", "1_001_1_02.png", "1_001_2_06.png", "1_002_1_01.png", "1_002_2_06.png",
    "2_001_1_03.png", "2_001_2_08.png",
]  # fmt: skip
NEW = {"train": NAMES[:3], "query": [NAMES[3], NAMES[6]], "gallery": [NAMES[4], NAMES[5]]}


def shade(pair: int, person: int, number: int) -> int:
    return 100 * pair + 20 * person + number


def write_release(path: Path) -> Path:
    """Write what MATLAB 7.3 would: cells are references, arrays are by columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as content:

        def refer(array: Any) -> Any:
            return content.create_dataset(f"#refs#/{len(content['#refs#'])}", data=array).ref

        content.create_group("#refs#")
        for boxes in ("detected", "labeled"):
            pairs = []
            for pair in (1, 2):
                persons = [person for p, person in PERSONS if p == pair]
                cells = np.empty((10, len(persons)), dtype=h5py.ref_dtype)
                for column, person in enumerate(persons):
                    for number in range(1, 11):
                        there = number in PERSONS[pair, person]
                        # Three pixels wide, five high, then turned as MATLAB does.
                        image = np.full((5, 3, 3), shade(pair, person, number), np.uint8)
                        image[0, :, 0] = 7
                        empty = np.zeros(2, np.uint64)
                        cells[number - 1, column] = refer(image.T if there else empty)
                pairs.append(refer(cells))
            content[boxes] = np.array([pairs], dtype=h5py.ref_dtype)
        test_sets = [np.array([[1.0, 2.0]]), np.array([[2.0, 1.0], [1.0, 1.0]])]
        content["testsets"] = np.array([[refer(t.T) for t in test_sets]], dtype=h5py.ref_dtype)
    return path


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).touch()
    return folder


def write_protocol(path: Path) -> None:
    files = np.array([[name] for name in NAMES], dtype=object)
    indices = {f"{key}_idx": [[NAMES.index(n) + 1] for n in names] for key, names in NEW.items()}
    scipy.io.savemat(path, {"filelist": files, "labels": [[1]] * len(NAMES), **indices})


def write_torchreid_splits(path: Path, *splits: dict[str, list[str]]) -> None:
    content = [
        {key: [[f"/home/x/images_detected/{n}", 5, 0] for n in names] for key, names in s.items()}
        for s in splits
    ]
    path.write_text(json.dumps(content))


def check_new_protocol(root: Path, boxes: Any = "detected") -> None:
    data = read_cuhk03(root, boxes=boxes)
    assert [(p.path.name, p.person, p.camera) for p in data.train] == [
        ("1_001_1_01.png", 1001, 1),
        ("1_001_1_02.png", 1001, 1),
        ("1_001_2_06.png", 1001, 2),
    ]
    assert [(p.person, p.camera) for p in data.query] == [(1002, 1), (2001, 2)]
    assert [(p.person, p.camera) for p in data.gallery] == [(1002, 2), (2001, 1)]
    assert data.protocol == "market1501"


@pytest.mark.parametrize("boxes", ["detected", "labelled"])
def test_from_the_mat_files_alone(tmp_path: Path, boxes: Any) -> None:
    write_release(tmp_path / "cuhk03_release" / "cuhk-03.mat")
    spelling = "labeled" if boxes == "labelled" else "detected"
    write_protocol(tmp_path / f"cuhk03_new_protocol_config_{spelling}.mat")
    check_new_protocol(tmp_path, boxes)
    folder = tmp_path / f"images_{spelling}"
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    image = np.asarray(Image.open(folder / "2_001_2_08.png"))
    assert image.shape == (5, 3, 3)
    assert (image[1:] == shade(2, 1, 8)).all()
    assert (image[0, :, 0] == 7).all()


def test_images_are_extracted_once_and_progress_is_reported(tmp_path: Path) -> None:
    write_release(tmp_path / "cuhk-03.mat")
    write_protocol(tmp_path / "cuhk03_new_protocol_config_detected.mat")
    reported: list[tuple[int, int]] = []
    read_cuhk03(tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]
    read_cuhk03(tmp_path, progress=lambda done, total: reported.append((done, total)))
    assert len(reported) == 3


def test_the_classic_protocol(tmp_path: Path) -> None:
    write_release(tmp_path / "cuhk03_release" / "cuhk-03.mat")
    data = read_cuhk03_classic(tmp_path)
    assert {p.person for p in data.train} == {1001, 2001}
    assert [p.path.name for p in data.query] == NAMES[3:5]
    assert data.gallery == data.query
    assert data.protocol == "single_gallery_shot"
    assert {p.person for p in read_cuhk03_classic(tmp_path, split=1).query} == {1001, 2001}
    with pytest.raises(DataError, match="no classic split 2; choose 0 to 1"):
        read_cuhk03_classic(tmp_path, split=2)


def test_torchreids_folders_need_no_mat_file(tmp_path: Path) -> None:
    write_images(tmp_path / "cuhk03" / "images_detected")
    write_torchreid_splits(tmp_path / "cuhk03" / "splits_new_detected.json", NEW)
    check_new_protocol(tmp_path)
    classic = {"train": NAMES[:5], "query": NAMES[5:], "gallery": NAMES[5:]}
    write_torchreid_splits(tmp_path / "cuhk03" / "splits_classic_detected.json", classic)
    assert {p.person for p in read_cuhk03_classic(tmp_path).query} == {2001}


def test_the_folders_of_the_new_protocol(tmp_path: Path) -> None:
    base = tmp_path / "CUHK03-NP" / "labeled"
    for folder, name in (
        ("bounding_box_train", "0001_c1_1.png"),
        ("query", "0002_c1_3.png"),
        ("bounding_box_test", "0002_c2_8.png"),
    ):
        (base / folder).mkdir(parents=True)
        (base / folder / name).touch()
    data = read_cuhk03(tmp_path, boxes="labelled")
    assert [(p.person, p.camera) for p in data.images()] == [(1, 1), (2, 1), (2, 2)]
    with pytest.raises(
        DataError, match=r"expected CUHK03: cuhk03_release/cuhk-03.mat or images_de"
    ):
        read_cuhk03(tmp_path, boxes="detected")
    with pytest.raises(DataError, match="CUHK03-NP has the new protocol alone"):
        read_cuhk03_classic(tmp_path, boxes="labelled")


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected CUHK03: cuhk03_release/cuhk-03.mat or images_"):
        read_cuhk03(tmp_path)
    write_images(tmp_path / "images_detected")
    with pytest.raises(
        DataError, match=r"neither cuhk03_new_protocol_config_detected.mat nor splits_new_detected"
    ):
        read_cuhk03(tmp_path)
    with pytest.raises(DataError, match=r"neither cuhk-03.mat nor splits_classic_detected.json"):
        read_cuhk03_classic(tmp_path)


def test_a_broken_release(tmp_path: Path) -> None:
    mat = tmp_path / "cuhk-03.mat"
    mat.write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"cuhk-03.mat: cannot be read as CUHK03's .* download it"):
        read_cuhk03(tmp_path)
    with h5py.File(mat, "w") as content:
        content["something"] = 1
    with pytest.raises(DataError, match=r"cuhk-03.mat: cannot be read as CUHK03's MATLAB 7.3 file"):
        read_cuhk03(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cuhk-03.mat"]


def test_a_broken_protocol(tmp_path: Path) -> None:
    write_images(tmp_path / "images_detected")
    mat = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    mat.write_bytes(b"MATLAB 5.0 it is not")
    with pytest.raises(DataError, match=r"_detected.mat: cannot be read as a protocol of CUHK03"):
        read_cuhk03(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as torchreid's splits of CUHK03"),
        ('[{"train": [["a"]]}]', "cannot be read as torchreid's splits of CUHK03"),
        ('[{"train": [["../x.png", 0, 0]], "query": [], "gallery": []}]', "'x.png' is no image"),
        (
            '[{"train": [["1_009_1_01.png", 0, 0]], "query": [], "gallery": []}]',
            "1_009_1_01.png: no such image, but the protocol lists it; remove the folder",
        ),
    ],
)  # fmt: skip
def test_broken_splits(tmp_path: Path, text: str, message: str) -> None:
    write_images(tmp_path / "images_detected")
    (tmp_path / "splits_new_detected.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_cuhk03(tmp_path)


def test_broken_classic_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "images_detected")
    splits = tmp_path / "splits_classic_detected.json"
    write_torchreid_splits(splits, {"train": NAMES, "query": ["a.png"], "gallery": []})
    with pytest.raises(DataError, match=r"'a.png' is no image of CUHK03"):
        read_cuhk03_classic(tmp_path)
    write_torchreid_splits(splits, {"train": NAMES, "query": [], "gallery": []})
    with pytest.raises(DataError, match="images_detected: no images of the classic split 0 in it"):
        read_cuhk03_classic(tmp_path)


def test_a_package_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "h5py"
    write_release(tmp_path / "cuhk-03.mat")
    write_protocol(tmp_path / "cuhk03_new_protocol_config_detected.mat")

    def refuse(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=package)

    monkeypatch.setattr("reid_edge.core.packages.importlib.import_module", refuse)
    with pytest.raises(DataError, match=rf"\.mat: needs the package {package}: pip install"):
        read_cuhk03(tmp_path)


def test_data_in_another_file_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 8)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["detected"] = np.zeros((1, 1), np.uint64)
    mat = tmp_path / "cuhk-03.mat"
    virtual = h5py.VirtualLayout((1, 1), np.uint64)
    virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "detected", (1, 1))
    outside = [(str(secret), 0, 8)]
    for value, message in (
        (
            h5py.ExternalLink(str(tmp_path / "other.h5"), "/detected"),
            "detected is a link; expected",
        ),
        (h5py.SoftLink("/elsewhere"), "detected is a link; expected the data of CUHK03"),
        (outside, "/detected has its data in another file"),
        (virtual, "/detected has its data in another file"),
    ):
        with h5py.File(mat, "w") as content:
            if value is outside:
                content.create_dataset("detected", (1, 1), np.uint64, external=outside)
            elif value is virtual:
                content.create_virtual_dataset("detected", virtual)
            else:
                content["detected"] = value
                content["elsewhere"] = 1
        with pytest.raises(DataError, match=message):
            read_cuhk03(tmp_path)
        mat.unlink()


def test_data_that_claims_terabytes(tmp_path: Path) -> None:
    mat = tmp_path / "cuhk-03.mat"
    for shape, chunks in (((1, 2**40), (1, 1024)), ((1, 4), (1, 2**25))):
        with h5py.File(mat, "w") as content:
            content.create_dataset(
                "detected", shape, np.uint64, chunks=chunks, maxshape=(None, None), compression=1
            )
        assert mat.stat().st_size < 10_000
        with pytest.raises(DataError, match="/detected claims more than 4 MiB, more than any ima"):
            read_cuhk03(tmp_path)


def test_a_protocol_that_claims_or_unpacks_to_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "images_detected")
    mat = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    write_protocol(mat)
    whole = mat.read_bytes()
    # The dimensions of the cells with the names of the files, 7 x 1.
    shape = struct.pack("<ii", len(NAMES), 1)
    assert shape in whole
    mat.write_bytes(whole.replace(shape, struct.pack("<ii", len(NAMES), 2**31 - 1), 1))
    with pytest.raises(DataError, match=r"\(15032385529 cells are announced, 7 are there\)"):
        read_cuhk03(tmp_path)
    monkeypatch.setattr("reid_edge.data.readers.mat5.MOST_BYTES", 2**20)
    scipy.io.savemat(mat, {"filelist": np.zeros(2**20)}, do_compression=True)
    assert mat.stat().st_size < 50_000
    with pytest.raises(DataError, match="unpacks to more than 1 MiB; get the file again"):
        read_cuhk03(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_anywhere_in_a_protocol_is_one_line(tmp_path: Path, compressed: bool) -> None:
    write_images(tmp_path / "images_detected")
    mat = tmp_path / "cuhk03_new_protocol_config_detected.mat"
    write_protocol(mat)
    if compressed:
        content = {k: v for k, v in scipy.io.loadmat(mat).items() if k[0] != "_"}
        scipy.io.savemat(mat, content, do_compression=True)
    check_new_protocol(tmp_path)
    whole = mat.read_bytes()
    generator = random.Random(2)
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[generator.randrange(128, len(damaged))] = generator.randrange(256)
        mat.write_bytes(damaged)
        with contextlib.suppress(DataError):
            read_cuhk03(tmp_path)

"""A folder per identity."""

from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.identity_folders import read_identity_folders


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_alone_are_training_set(tmp_path: Path) -> None:
    touch(tmp_path, "bob/1.jpg", "bob/2.png", "ann/1.pgm", "ann/notes.txt", ".cache/1.jpg", "x.jpg")
    data = read_identity_folders(tmp_path)
    assert [(p.path.parent.name, p.person, p.camera) for p in data.train] == [
        ("ann", 1, 1),
        ("bob", 2, 1),
        ("bob", 2, 2),
    ]
    assert not data.query
    assert not data.has_cameras


def test_splits_numbers_and_cameras(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/0002/0002_c1s1_000451_03.jpg",
        "val/0002/0002_c2s1_000451_03.jpg",
        "query/0005/c3 (1).jpg",
        "gallery/0005/5-c12.jpg",
        "gallery/0000/0000_c4_f1.jpg",
        "gallery/-1/-1_c4s1_1.jpg",
    )
    data = read_identity_folders(tmp_path)
    assert [(p.person, p.camera) for p in data.train] == [(2, 1)]
    assert [(p.person, p.camera) for p in data.query] == [(5, 3)]
    assert [(p.person, p.camera) for p in data.gallery] == [(0, 4), (5, 12)]
    assert data.has_cameras


def test_mars_names_its_junk_otherwise(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/0002/0002C1T0001F001.jpg", "query/0006/0006C1T0001F001.jpg",
        "gallery/0006/0006C2T0001F001.jpg", "gallery/00-1/00-1C1T0001F001.jpg",
        "gallery/0000/0000C1T0001F001.jpg", "gallery/-1/-1_c1s1_1.jpg",
    )  # fmt: skip
    data = read_identity_folders(tmp_path)
    # Distractors stay in the gallery.
    assert [(p.person, p.camera) for p in data.gallery] == [(0, 1), (6, 2)]
    assert data.junk == 2
    assert data.notes == ()
    touch(tmp_path, "train/0000/0000C1T0001F001.jpg")
    assert "0000 are distractors" in read_identity_folders(tmp_path).notes[0]


def test_a_number_is_one_person_in_all_folders(tmp_path: Path) -> None:
    touch(tmp_path, "query/0005/c1_1.jpg", "gallery/5/c2_1.jpg", "gallery/06/c2_1.jpg")
    data = read_identity_folders(tmp_path)
    assert [p.person for p in (*data.query, *data.gallery)] == [5, 6, 5]
    assert data.notes == ("one person is written '0005' and '5'",)


@pytest.mark.parametrize("name", ["nan", "None", "NULL"])
def test_a_missing_value_is_no_person(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"/{name}: '{name}' is a missing value and no person"):
        read_identity_folders(touch(tmp_path, "ann/1.jpg", f"{name}/1.jpg"))


def test_junk_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder with images in it; expected one per identity"):
        read_identity_folders(touch(tmp_path, "-1/a.jpg"))


def test_train_all(tmp_path: Path) -> None:
    touch(tmp_path, "train/1/a.jpg", "val/2/b.jpg")
    assert len(read_identity_folders(tmp_path).train) == 1
    assert len(read_identity_folders(tmp_path, train_all=True).train) == 2
    touch(tmp_path, "train_all/1/a.jpg", "train_all/2/b.jpg", "train_all/3/c.jpg")
    assert len(read_identity_folders(tmp_path).train) == 1
    assert len(read_identity_folders(tmp_path, train_all=True).train) == 3


@pytest.mark.parametrize(
    "name",
    [
        "cam3_1.jpg", "C3_1.jpg", "Camera3-1.jpg", "cam_3_0001.jpg", "0002_C3S1_000451_03.jpg",
        "0001C3T0001F001.jpg", "00-1C3T0001F001.jpg", "person7_CAM3.jpg", "camera 3 (1).jpg",
    ],
)  # fmt: skip
def test_other_spellings_of_a_camera(tmp_path: Path, name: str) -> None:
    data = read_identity_folders(touch(tmp_path, f"ann/{name}", "bob/c3_1.jpg"))
    assert [p.camera for p in data.train] == [3, 3]
    assert data.has_cameras


@pytest.mark.parametrize("name", ["cameraman2.jpg", "webcam3.jpg", "C3PO.jpg", "camera.jpg"])
def test_other_words_are_no_cameras(tmp_path: Path, name: str) -> None:
    assert not read_identity_folders(touch(tmp_path, f"ann/{name}")).has_cameras


@pytest.mark.parametrize("name", ["pic2.jpg", "c3po.jpg", "abc12.jpg", "c.jpg"])
def test_words_are_no_cameras(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"ann/{name}", "ann/zz.jpg")
    assert [p.camera for p in read_identity_folders(tmp_path).train] == [1, 2]


def test_a_folder_beside_the_splits_is_not_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "train/ann/1.jpg", "test/bob/day/1.JPG")
    with pytest.raises(
        DataError, match=r"/test: has images and is not read; .* train, query and gallery, a test"
    ):
        read_identity_folders(tmp_path)


def test_folders_beside_the_splits_that_may_be_there(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/ann/1.jpg", "val/ann/2.jpg", "multi-query/eve/1.jpg", ".cache/1.jpg",
        "@eaDir/1.jpg", "__MACOSX/train/1.jpg", "notes/read.me", "test/.thumbs/1.jpg",
        "test/._1.jpg", "train/@ann/1.jpg",
    )  # fmt: skip
    assert len(read_identity_folders(tmp_path).train) == 2


@pytest.mark.parametrize("beside", ["bob/1.jpg", "ann/1.jpg"])
def test_folders_within_an_identity_are_not_passed_over(tmp_path: Path, beside: str) -> None:
    touch(tmp_path, beside, "bob/cam1/1.jpg")
    with pytest.raises(
        DataError,
        match=r"/bob/cam1: has images and is not read, .* that of an identity, 'bob'; put the",
    ):
        read_identity_folders(tmp_path)


def test_folders_within_an_identity_that_may_be_there(tmp_path: Path) -> None:
    touch(tmp_path, "ann/1.jpg", "ann/.thumbs/1.jpg", "ann/@eaDir/1.jpg", "ann/raw/1.txt")
    assert len(read_identity_folders(tmp_path).train) == 1


@pytest.mark.parametrize("names", [("Train/ann/1.jpg", "Query/eve/1.jpg"), ("test/eve/1.jpg",)])
def test_splits_by_other_names_are_no_identities(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="folders named train, query and gallery"):
        read_identity_folders(touch(tmp_path, *names))


def test_cameras_in_some_names_only(tmp_path: Path) -> None:
    touch(tmp_path, "ann/c1.jpg", "ann/front.jpg")
    with pytest.raises(
        DataError, match=r"ann/front.jpg: no camera such as 'c2' in the name, .* give all or none"
    ):
        read_identity_folders(tmp_path)


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder with images in it; expected one per identity"):
        read_identity_folders(touch(tmp_path, "a.jpg"))
    with pytest.raises(DataError, match="query and gallery go together"):
        read_identity_folders(touch(tmp_path, "query/1/a.jpg"))
    with pytest.raises(DataError, match="no such folder"):
        read_identity_folders(tmp_path / "nowhere")

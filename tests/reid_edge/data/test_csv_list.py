"""CSV lists: what they mean, and what is said about each mistake."""

import os
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.readers.csv_list import read_csv_lists
from reid_edge.data.schema import check_evaluable


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "own"
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_three_lists_with_cameras(images: Path) -> None:
    header = "img_path,person_id,camera_id"
    write(images, "train.csv", header, "a/1.jpg,7,3")
    write(images, "query.csv", header, "a/2.jpg,12,1")
    write(images, "gallery.csv", header, "b/2.jpg,12,2", "b/1.jpg,12,1")
    data = read_csv_lists(images)
    assert [(p.path.name, p.person, p.camera) for p in data.train] == [("1.jpg", 7, 3)]
    assert [(p.person, p.camera) for p in data.query] == [(12, 1)]
    # By path, whatever the order in the file.
    assert [(p.path.name, p.camera) for p in data.gallery] == [("1.jpg", 1), ("2.jpg", 2)]
    assert data.has_cameras


def test_one_list_is_training_set(images: Path) -> None:
    write(images, "labels.csv", "person_id, img_path", "s2,b/1.jpg", "s1,a/2.jpg", "", "s1,a/1.jpg")
    data = read_csv_lists(images)
    assert data == read_csv_lists(images / "labels.csv")
    assert [(p.person, p.camera) for p in data.train] == [(1, 1), (1, 2), (2, 1)]
    assert not data.query
    assert not data.gallery


@pytest.mark.parametrize(
    "header",
    [
        "img_path,pid,camid", "IMG_PATH,Person_ID,Camera_ID", "img_path ,person_id, camera_id ",
        "img_path,person_id,cam_id", "img_path,person_id,Camera",
    ],
)  # fmt: skip
def test_other_spellings_of_the_columns(images: Path, header: str) -> None:
    write(images, "query.csv", header, "a/1.jpg,7,3", "b/1.jpg,8,3")
    write(images, "gallery.csv", "img_path,person_id,camera_id", "a/2.jpg,7,3", "b/2.jpg,8,4")
    data = read_csv_lists(images)
    assert data.has_cameras
    assert [(p.person, p.camera) for p in (*data.query, *data.gallery)] == [
        (7, 3), (8, 3), (7, 3), (8, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("column", ["cameraid", "Cam", "caemra_id", "camera name", "kamera_id"])
def test_a_column_like_the_cameras_is_not_passed_over(images: Path, column: str) -> None:
    write(images, "train.csv", f"img_path,person_id,{column}", "a/1.jpg,7,3")
    with pytest.raises(
        DataError, match=rf"train.csv: column '{column.lower()}' is not known; name it camera_id if"
    ):
        read_csv_lists(images)
    # With the cameras known it is no more than one of the others.
    write(images, "train.csv", f"img_path,person_id,{column},camid", "a/1.jpg,7,3,5")
    assert read_csv_lists(images).train[0].camera == 5


def test_other_columns_are_passed_over(images: Path) -> None:
    write(images, "train.csv", "img_path,person_id,sequence,time", "a/1.jpg,7,3,4")
    assert not read_csv_lists(images).has_cameras


def test_two_columns_that_mean_the_same(images: Path) -> None:
    write(images, "train.csv", "img_path,person_id,camid,camera_id", "a/1.jpg,7,3,4")
    with pytest.raises(DataError, match="columns camid and camera_id all mean camera_id; keep one"):
        read_csv_lists(images)


def test_without_cameras_every_match_counts_but_the_image_itself(images: Path) -> None:
    write(images, "query.csv", "img_path,person_id", "a/1.jpg,s1")
    write(images, "gallery.csv", "img_path,person_id", "a/1.jpg,s1", "a/2.jpg,s1", "b/1.jpg,s2")
    data = read_csv_lists(images)
    check_evaluable(data)
    assert data.query[0] == data.gallery[0]
    assert data.gallery[1].camera != data.query[0].camera
    assert not data.has_cameras


def test_junk_and_a_byte_order_mark(images: Path) -> None:
    write(images, "labels.csv", "\ufeffimg_path,person_id", "a/1.jpg,-1", "a/2.jpg,5")
    assert [p.person for p in read_csv_lists(images).train] == [5]


def test_whole_numbers_are_numbers_in_whatever_form(images: Path) -> None:
    # pandas writes a column of numbers that once had a gap as 1.0.
    write(images, "train.csv", "img_path,person_id,camera_id", "a/1.jpg,07,2")
    write(images, "query.csv", "img_path,person_id,camera_id", "a/2.jpg,12.0,1.0")
    write(
        images, "gallery.csv", "img_path,person_id,camera_id",
        "a/2.jpg,12,01", "b/2.jpg, +12 ,1e0", "b/1.jpg,\uff11\uff12,2,", ",,", "  ",
    )  # fmt: skip
    data = read_csv_lists(images)
    assert [(p.person, p.camera) for p in data.train] == [(7, 2)]
    assert [(p.person, p.camera) for p in data.query] == [(12, 1)]
    assert [(p.person, p.camera) for p in data.gallery] == [(12, 1), (12, 2), (12, 1)]
    assert data.notes == (
        "one person is written '+12' and '12' and '12.0' and '\uff11\uff12'",
        "one camera is written '01' and '1.0' and '1e0'",
    )


@pytest.mark.parametrize("junk", ["-1", "-1.0", "-01", "00-1", "\u22121"])
def test_junk_in_whatever_form(images: Path, junk: str) -> None:
    write(images, "labels.csv", "img_path,person_id", "a/1.jpg,1", f"a/2.jpg,{junk}")
    data = read_csv_lists(images)
    assert [p.path.name for p in data.train] == ["1.jpg"]
    assert data.junk == 1


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "NULL", "<NA>"])
def test_a_missing_person_is_nobody(images: Path, name: str) -> None:
    write(images, "train.csv", "img_path,person_id", "a/1.jpg,5", f"a/2.jpg,{name}")
    with pytest.raises(DataError) as caught:
        read_csv_lists(images)
    assert str(caught.value) == (
        f"{images}/train.csv line 3: person_id is {name!r}, a missing value; name the person"
    )


def test_a_missing_camera_is_none(images: Path) -> None:
    write(images, "train.csv", "img_path,person_id,camera_id", "a/1.jpg,5,nan", "a/2.jpg,5,")
    assert not read_csv_lists(images).has_cameras
    write(images, "train.csv", "img_path,person_id,camera_id", "a/1.jpg,5,1.0", "a/2.jpg,5,NaN")
    with pytest.raises(DataError, match="line 3: no camera_id, but other lines have one"):
        read_csv_lists(images)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(images: Path, delimiter: str) -> None:
    lines = ["img_path,person_id,camera_id", "a\\1.jpg,5,1", '"a/2.jpg", 5,2']
    write(images, "train.csv", *(line.replace(",", delimiter) for line in lines))
    data = read_csv_lists(images)
    assert [(p.path.name, p.person, p.camera) for p in data.train] == [
        ("1.jpg", 5, 1), ("2.jpg", 5, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["path,person_id"], r"train.csv: no column img_path in the first line; expected .*, fou"),
        (["a/1.jpg,5"], "no column img_path and person_id in the first line"),
        ([], "no column img_path and person_id in the first line; .* found nothing"),
        (["img_path,person_id"], r"train.csv: no images in it"),
        (["img_path,person_id", "a/1.jpg,"], r"train.csv line 2: person_id is empty"),
        (["img_path,person_id", ",5"], "line 2: img_path is empty"),
        (["img_path,person_id", "a/1.jpg,5", "a/9.jpg,5"], "line 3: no such image: 'a/9.jpg'"),
        (["img_path,person_id", "a,5"], "line 2: 'a' is no image file"),
        (["img_path,person_id", "a/1.jpg,5", "a/1.jpg,5"], "line 3: the image is in line 2 alre"),
        (["img_path,person_id", "../own/a/1.jpg,5"], r"train.csv line 2: the path .* climbs out"),
        (["img_path,person_id", "/etc/hostname,5"], r"train.csv line 2: the path .* is absolute"),
        (
            ["img_path,person_id", "a/1.jpg,5", "./a//1.jpg,5"],
            "line 3: the image is in line 2 already",
        ),
        (
            ["img_path,person_id,camera_id", "a/1.jpg,Smith, John,2"],
            "line 2: 4 cells, but the first line names 3; put a cell with ',' in it into quota",
        ),
        (
            ["img_path,person_id", 'a/1.jpg,"ann', "a/2.jpg,bob", "b/1.jpg,eve"],
            "line 4: a line break in a cell; is a quotation mark open?",
        ),
        (["img_path,person_id", "C:\\own\\1.jpg,5"], "line 2: the path .* is absolute"),
        (
            ["img_path,person_id,camera_id", "a/1.jpg,5,1", "a/2.jpg,5,"],
            "line 3: no camera_id, but other lines have one; give all or none",
        ),
    ],
)  # fmt: skip
def test_mistakes_in_a_list(images: Path, lines: list[str], message: str) -> None:
    (images / "train.csv").write_text("".join(line + "\n" for line in lines))
    with pytest.raises(DataError, match=message):
        read_csv_lists(images)


def test_a_link_that_leads_out(images: Path) -> None:
    (images.parent / "secret.jpg").touch()
    (images / "a" / "3.jpg").symlink_to(images.parent / "secret.jpg")
    write(images, "train.csv", "img_path,person_id", "a/3.jpg,5")
    with pytest.raises(DataError, match=r"train.csv line 2: the path .* by a symbolic link"):
        read_csv_lists(images)


def test_a_folder_of_links_that_leads_out(images: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").touch()
    (images / "c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    write(images, "train.csv", "img_path,person_id", "c/1.jpg,5")
    with pytest.raises(DataError, match=r"line 2: .* by a symbolic link"):
        read_csv_lists(images)


def test_lists_that_contradict_each_other(images: Path) -> None:
    write(images, "query.csv", "img_path,person_id", "a/1.jpg,5")
    write(images, "gallery.csv", "img_path,person_id", "a/1.jpg,6")
    with pytest.raises(
        DataError,
        match=r"gallery.csv line 2: 1.jpg has another person .* than in .*query.csv line 2",
    ):
        read_csv_lists(images)


def test_missing_lists(images: Path) -> None:
    with pytest.raises(DataError, match=r"expected train.csv, .* or a single CSV file; found none"):
        read_csv_lists(images)
    write(images, "one.csv")
    write(images, "two.csv")
    with pytest.raises(DataError, match=r"found one.csv, two.csv"):
        read_csv_lists(images)
    write(images, "query.csv")
    with pytest.raises(DataError, match=r"query.csv and gallery.csv go together"):
        read_csv_lists(images)
    with pytest.raises(DataError, match="no such folder or CSV file"):
        read_csv_lists(images / "nowhere")


def test_a_fifo_is_no_list(images: Path) -> None:
    os.mkfifo(images / "labels.csv")
    with pytest.raises(DataError, match=r"or a single CSV file; found none"):
        read_csv_lists(images)
    with pytest.raises(DataError, match="no such folder or CSV file"):
        read_csv_lists(images / "labels.csv")


def test_a_file_that_is_no_text(images: Path) -> None:
    (images / "train.csv").write_bytes(b"img_path,person_id\n\xff\xfe,5\n")
    with pytest.raises(DataError, match=r"train.csv: cannot be read as CSV in UTF-8"):
        read_csv_lists(images)

"""Merged training sets, and identities set apart."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_edge.core.errors import DataError
from reid_edge.data.identities import (
    merge_training,
    split_by_identity,
    stand_in_cameras,
)
from reid_edge.data.schema import ReidData, Sample, check_evaluable, relabel

Labels = list[tuple[int, int]]


def images(folder: str, labels: Labels) -> tuple[Sample, ...]:
    return tuple(
        Sample(Path(folder) / f"{number:04d}.jpg", person, camera)
        for number, (person, camera) in enumerate(labels)
    )


def training_set(folder: str, labels: Labels) -> ReidData:
    return ReidData(Path(folder), images(folder, labels), (), ())


any_labels = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), min_size=1, max_size=30)


def test_two_sets_and_a_test_set() -> None:
    market = training_set("market", [(2, 1), (7, 3), (2, 2)])
    duke = training_set("duke", [(2, 1), (1, 8)])
    test = ReidData(Path("t"), (), images("q", [(2, 1)]), images("g", [(2, 2), (5, 1)]))
    merged = merge_training([market, duke], test)
    # Beyond person 5 and camera 2 of the test set, set after set.
    assert [(p.person, p.camera) for p in merged.train] == [
        (6, 3),
        (7, 5),
        (6, 4),
        (9, 3 + 3),
        (8, 7),
    ]
    assert relabel(merged.train) == [0, 1, 0, 3, 2]
    assert (merged.query, merged.gallery, merged.root) == (test.query, test.gallery, test.root)


@given(st.lists(any_labels, min_size=1, max_size=4), any_labels)
def test_no_number_means_two_people(sets: list[Labels], tested: Labels) -> None:
    test = ReidData(Path("t"), (), images("q", tested), images("g", tested))
    training = [training_set(str(number), labels) for number, labels in enumerate(sets)]
    merged = merge_training(training, test)
    assert [p.path for p in merged.train] == [p.path for data in training for p in data.train]
    originals = [
        (number, p.person, p.camera) for number, data in enumerate(training) for p in data.train
    ]
    for kind in (1, 2):
        pairs = {
            ((original[0], original[kind]), (p.person, p.camera)[kind - 1])
            for original, p in zip(originals, merged.train, strict=True)
        }
        # One number for each of a set's people and cameras, and each number for one only.
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    used = {p.person for p in (*merged.query, *merged.gallery)}
    assert not used & {p.person for p in merged.train}


def test_an_image_of_two_sets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "market").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "market")
    market, again = (training_set(str(tmp_path / name), [(2, 1)]) for name in ("market", "link"))
    test = ReidData(Path("t"), (), images("q", [(2, 1)]), images("g", [(2, 2)]))
    name = market.train[0].path
    words = f"{re.escape(str(name))}: would be trained on as a new person, and is"
    with pytest.raises(DataError, match=f"{words} trained on as well; name each folder of images"):
        merge_training([market, again], test)
    with pytest.raises(DataError, match=f"{words} tested on as well; name each folder of images"):
        merge_training([market], replace(test, gallery=(*test.gallery, *again.train)))


def test_nothing_to_merge() -> None:
    test = ReidData(Path("t"), (), images("q", [(1, 1)]), images("g", [(1, 2)]))
    with pytest.raises(DataError, match="none of the data sets to merge has images to train on"):
        merge_training([test], test)


@given(any_labels, st.floats(0.05, 0.95), st.integers(0, 5))
def test_a_split_by_identity(labels: Labels, share: float, seed: int) -> None:
    data = training_set("d", labels)
    try:
        split = split_by_identity(data, share, seed)
    except DataError:
        return
    held_out = {p.person for p in (*split.query, *split.gallery)}
    assert not held_out & {p.person for p in split.train}
    assert split.train
    assert sorted(split.images()) == sorted(data.train)
    check_evaluable(split)
    for query in split.query:
        assert any(p.person == query.person and p.camera != query.camera for p in split.gallery)
    shown = [(query.person, query.camera) for query in split.query]
    assert len(shown) == len(set(shown))
    assert split == split_by_identity(data, share, seed)


def test_one_query_per_identity_and_camera() -> None:
    labels = [(person, camera) for person in range(10) for camera in (1, 2, 3) for _ in range(2)]
    split = split_by_identity(training_set("d", labels), 0.3, seed=1)
    assert len({p.person for p in split.query}) == 3
    assert len(split.query) == len(split.gallery) == 9


def test_without_cameras_each_identity_has_one_query() -> None:
    labels = [(person, camera) for person in range(10) for camera in range(1, 6)]
    split = split_by_identity(training_set("d", labels), 0.2, seed=1)
    assert len(split.query) == 2
    assert len(split.gallery) == 8


def test_other_seeds_draw_others() -> None:
    data = training_set("d", [(person, camera) for person in range(20) for camera in (1, 2)])
    drawn = {
        tuple(sorted({p.person for p in split_by_identity(data, 0.2, s).query})) for s in range(5)
    }
    assert len(drawn) > 1


def test_splits_that_cannot_be() -> None:
    data = training_set("d", [(1, 1), (2, 1), (2, 1)])
    for share in (0, 1, -0.5):
        with pytest.raises(DataError, match="the share of identities must be between 0 and 1, not"):
            split_by_identity(data, share, 0)
    with pytest.raises(DataError, match="none of the 1 identities set apart is on two cameras"):
        split_by_identity(data, 0.5, 0)
    with pytest.raises(DataError, match="d: 1 identities cannot be split in two"):
        split_by_identity(training_set("d", [(1, 1)]), 0.5, 0)


def test_no_two_images_of_a_person_share_a_camera() -> None:
    a, b, c = Path("a"), Path("b"), Path("c")
    # The same image twice, as in query and gallery, has one camera.
    assert stand_in_cameras([(1, b), (1, a), (2, c), (1, b)]) == {a: 1, b: 2, c: 1}

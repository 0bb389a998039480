"""From picture files to an index to names."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reid.data.records import ReidData
from reid.errors import DataError
from reid.inference.embedder import Embedder, embed_files
from reid.inference.enrol import enrol
from reid.inference.gallery import Entry, Gallery, append
from reid.inference.gallery_folder import open_gallery
from reid.inference.identify import identify, query_pictures
from reid.inference.model_files import load_embedder
from reid.inference.verify import verify


@pytest.fixture(scope="module")
def embedder(checkpoint_file: Path) -> Embedder:
    return load_embedder(checkpoint_file)


@pytest.fixture
def people(tmp_path: Path, tiny_data: ReidData) -> Path:
    for picture in tiny_data.gallery:
        if picture.person > 0:
            folder = tmp_path / "people" / f"person {picture.person}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture.path, folder)
    return tmp_path / "people"


def test_enrol_append_and_identify(
    embedder: Embedder, people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = tmp_path / "index"
    first = sorted(people.iterdir())[0]
    later = tmp_path / first.name
    first.rename(later)
    result = enrol(embedder, people, index)
    assert result.added == result.pictures == len(list(people.rglob("*.jpg")))
    assert (result.known, result.kind) == (0, "flat")
    later.rename(people / first.name)
    more = enrol(embedder, people, index)
    assert (more.known, more.persons) == (result.pictures, result.persons + 1)
    assert more.pictures == more.added + more.known

    gallery = open_gallery(index, embedder.space)
    files = query_pictures(people / first.name)
    found = identify(gallery, embed_files(embedder, files), count=3, threshold=0.999)
    assert [identification.person for identification in found] == [first.name] * len(files)
    best = found[0].candidates[0]
    assert best.file == f"{first.name}/{files[0].name}"
    assert best.similarity == pytest.approx(1, abs=1e-5)
    assert len({candidate.person for candidate in found[0].candidates}) == 3
    assert enrol(embedder, people, index).added == 0
    assert not caplog.records


def test_same_picture_twice(
    embedder: Embedder,
    people: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("reid"), "propagate", True)
    first, second = sorted(people.iterdir())[:2]
    picture = sorted(first.iterdir())[0]
    shutil.copy(picture, first / "copy.jpg")
    shutil.copy(picture, second / "copy.jpg")
    result = enrol(embedder, people, tmp_path / "index")
    assert result.known == 2
    assert f"the same picture is enrolled as '{first.name}'" in caplog.text


def test_nothing_is_written_unless_all_can_be_read(
    embedder: Embedder, people: Path, tmp_path: Path
) -> None:
    (sorted(people.iterdir())[-1] / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="cannot be decoded"):
        enrol(embedder, people, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_kinds(embedder: Embedder, people: Path, tmp_path: Path) -> None:
    assert enrol(embedder, people, tmp_path / "hnsw", kind="hnsw").kind == "hnsw"
    assert enrol(embedder, people, tmp_path / "hnsw").kind == "hnsw"
    with pytest.raises(DataError, match="is a hnsw index, not flat; enrol into another folder"):
        enrol(embedder, people, tmp_path / "hnsw", kind="flat")
    with pytest.raises(DataError, match="an ivf index is trained on its first pictures and needs"):
        enrol(embedder, people, tmp_path / "ivf", kind="ivf")
    with pytest.raises(DataError, match="unknown index kind 'tree'"):
        enrol(embedder, people, tmp_path / "tree", kind="tree")  # type: ignore[arg-type]


def test_another_model(embedder: Embedder, people: Path, tmp_path: Path) -> None:
    enrol(embedder, people, tmp_path / "index")
    with pytest.raises(DataError, match="the index was made with another model file"):
        enrol(replace(embedder, file_hash="0" * 64), people, tmp_path / "index")


@pytest.fixture
def gallery(embedder: Embedder) -> Gallery:
    """Ten pictures of ann around one direction, one of bob in another."""
    names = ["ann"] * 10 + ["bob"]
    entries = [Entry(name, f"{place}.jpg", str(place)) for place, name in enumerate(names)]
    angles = torch.linspace(0, 0.1, 11)
    angles[10] = 1.0
    vectors = torch.stack((angles.cos(), angles.sin()), 1)
    return append(Gallery(embedder.space, "", "flat"), entries, vectors)


def test_threshold_decides(gallery: Gallery) -> None:
    query = torch.tensor([[2.0, 0.0]])
    known = identify(gallery, query, count=1, threshold=1.0)[0]
    assert (known.person, known.candidates[0].file) == ("ann", "0.jpg")
    between = torch.tensor([[0.0, -1.0]])
    stranger = identify(gallery, between, count=1, threshold=0.5)[0]
    assert stranger.person is None
    assert stranger.candidates[0].person == "ann"


def test_top_is_of_persons_however_many_pictures_one_has(gallery: Gallery) -> None:
    found = identify(gallery, torch.tensor([[1.0, 0.0]]), count=2, threshold=0)[0]
    assert [candidate.person for candidate in found.candidates] == ["ann", "bob"]
    assert found.candidates[1].similarity == pytest.approx(0.5403, abs=1e-4)
    assert len(identify(gallery, torch.ones(1, 2), count=50, threshold=0)[0].candidates) == 2


def test_bad_questions(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the top 0 are asked for"):
        identify(gallery, torch.ones(1, 2), count=0, threshold=0)
    with pytest.raises(DataError, match="do not belong to this gallery"):
        identify(gallery, torch.ones(1, 3), count=1, threshold=0)
    with pytest.raises(DataError, match="no such picture or folder"):
        query_pictures(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no pictures in it"):
        query_pictures(tmp_path)


def test_verify(embedder: Embedder, tiny_data: ReidData) -> None:
    first, second = tiny_data.query[0].path, tiny_data.gallery[0].path
    same = verify(embedder, first, first, 0.999)
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert same.same_person
    other = verify(embedder, first, second, 1.0)
    assert not other.same_person
    assert verify(embedder, first, second, other.similarity).same_person
    with pytest.raises(DataError, match="no such picture"):
        verify(embedder, first, Path("nowhere.jpg"), 0.5)

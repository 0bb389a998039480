"""From image files to an index to names."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from reid_edge.core.errors import DataError
from reid_edge.data.schema import ReidData
from reid_edge.inference.embedder import ImageEmbedder, embed_files, load_embedder, unit_vectors
from reid_edge.inference.enrolment import enrol
from reid_edge.inference.faiss_index import search
from reid_edge.inference.gallery import Entry, Gallery, append, open_gallery
from reid_edge.inference.recognition import Candidate, identify, query_images, verify


def array(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


@pytest.fixture(scope="module")
def embedder(checkpoint_file: Path) -> ImageEmbedder:
    return load_embedder(checkpoint_file)


@pytest.fixture
def people(tmp_path: Path, tiny_data: ReidData) -> Path:
    for image in tiny_data.gallery:
        if image.person > 0:
            folder = tmp_path / "people" / f"person {image.person}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image.path, folder)
    return tmp_path / "people"


def test_enrol_append_and_identify(
    embedder: ImageEmbedder, people: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = tmp_path / "index"
    first = sorted(people.iterdir())[0]
    later = tmp_path / first.name
    first.rename(later)
    result = enrol(embedder, people, index)
    assert result.added == result.images == len(list(people.rglob("*.jpg")))
    assert (result.known, result.kind) == (0, "flat")
    later.rename(people / first.name)
    more = enrol(embedder, people, index)
    assert (more.known, more.persons) == (result.images, result.persons + 1)
    assert more.images == more.added + more.known

    gallery = open_gallery(index, embedder.space)
    files = query_images(people / first.name)
    found = identify(gallery, embed_files(embedder, files), count=3, threshold=0.999)
    assert [identification.person for identification in found] == [first.name] * len(files)
    best = found[0].candidates[0]
    assert best.file == f"{first.name}/{files[0].name}"
    assert best.similarity == pytest.approx(1, abs=1e-5)
    assert len({candidate.person for candidate in found[0].candidates}) == 3
    assert enrol(embedder, people, index).added == 0
    assert not caplog.records


def test_same_image_twice(
    embedder: ImageEmbedder,
    people: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("reid_edge"), "propagate", True)
    first, second = sorted(people.iterdir())[:2]
    image = sorted(first.iterdir())[0]
    shutil.copy(image, first / "copy.jpg")
    shutil.copy(image, second / "copy.jpg")
    result = enrol(embedder, people, tmp_path / "index")
    assert result.known == 2
    assert f"the same image is enrolled as '{first.name}'" in caplog.text


def test_a_number_is_one_person_in_whatever_form(
    embedder: ImageEmbedder,
    people: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("reid_edge"), "propagate", True)
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    for folder, name in zip(sorted(people.iterdir()), ("07", "7"), strict=False):
        folder.rename(numbers / name)
        result = enrol(embedder, numbers, tmp_path / "index")
    assert (result.added > 0, result.persons) == (True, 1)
    assert "'07' and '7' are one person, enrolled as '07'" in caplog.text


def test_nothing_is_written_unless_all_can_be_read(
    embedder: ImageEmbedder, people: Path, tmp_path: Path
) -> None:
    (sorted(people.iterdir())[-1] / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be decoded"):
        enrol(embedder, people, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_what_is_no_file(embedder: ImageEmbedder, people: Path, tmp_path: Path) -> None:
    link = sorted(people.iterdir())[0] / "gone.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read \(No such file or directory\)"):
        enrol(embedder, people, tmp_path / "index")
    link.unlink()
    link.mkdir()
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read \(Is a directory\); replace"):
        enrol(embedder, people, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_kinds(embedder: ImageEmbedder, people: Path, tmp_path: Path) -> None:
    assert enrol(embedder, people, tmp_path / "hnsw", kind="hnsw").kind == "hnsw"
    assert enrol(embedder, people, tmp_path / "hnsw").kind == "hnsw"
    with pytest.raises(DataError, match="is a hnsw index, not flat; enrol into another folder"):
        enrol(embedder, people, tmp_path / "hnsw", kind="flat")
    with pytest.raises(DataError, match="an ivf index is trained on its first images and needs"):
        enrol(embedder, people, tmp_path / "ivf", kind="ivf")
    with pytest.raises(DataError, match="unknown index kind 'tree'"):
        enrol(embedder, people, tmp_path / "tree", kind="tree")  # type: ignore[arg-type]


def test_another_model(embedder: ImageEmbedder, people: Path, tmp_path: Path) -> None:
    other = replace(embedder, space=replace(embedder.space, file_hash="0" * 64))
    enrol(embedder, people, tmp_path / "index")
    with pytest.raises(DataError, match="the index was made with another model file"):
        enrol(other, people, tmp_path / "index")


@pytest.fixture
def gallery(embedder: ImageEmbedder) -> Gallery:
    """Ten images of ann around one direction, one of bob in another."""
    names = ["ann"] * 10 + ["bob"]
    entries = [Entry(name, f"{place}.jpg", str(place)) for place, name in enumerate(names)]
    angles = np.linspace(0, 0.1, 11, dtype=np.float32)
    angles[10] = 1.0
    vectors = np.stack((np.cos(angles), np.sin(angles)), 1)
    return append(Gallery(embedder.space, "", "flat"), entries, vectors)


def test_threshold_decides(gallery: Gallery) -> None:
    query = array([[2.0, 0.0]])
    known = identify(gallery, query, count=1, threshold=1.0)[0]
    assert (known.person, known.candidates[0].file) == ("ann", "0.jpg")
    between = array([[0.0, -1.0]])
    stranger = identify(gallery, between, count=1, threshold=0.5)[0]
    assert stranger.person is None
    assert stranger.candidates[0].person == "ann"
    undecided = identify(gallery, query, count=1, threshold=None)[0]
    assert (undecided.person, undecided.candidates) == (None, known.candidates)


def test_top_is_of_persons_however_many_images_one_has(gallery: Gallery) -> None:
    found = identify(gallery, array([[1.0, 0.0]]), count=2, threshold=0)[0]
    assert [candidate.person for candidate in found.candidates] == ["ann", "bob"]
    assert found.candidates[1].similarity == pytest.approx(0.5403, abs=1e-4)
    assert len(identify(gallery, array([[1.0, 1.0]]), count=50, threshold=0)[0].candidates) == 2


def naively(
    gallery: Gallery, vectors: np.ndarray, query: np.ndarray, count: int
) -> list[Candidate]:
    """Every image in order of similarity, then of enrolment; of a person the first one."""
    similarities = (vectors @ query).tolist()
    best: dict[str, Candidate] = {}
    for place in sorted(range(len(vectors)), key=lambda place: -similarities[place]):
        entry = gallery.entries[place]
        best.setdefault(entry.person, Candidate(entry.person, similarities[place], entry.file))
    return list(best.values())[:count]


@pytest.mark.parametrize("persons", [1, 3, 40])
@pytest.mark.parametrize("block_bytes", [1, 64 * 2**20])
def test_the_same_as_looking_at_every_image(
    embedder: ImageEmbedder, monkeypatch: pytest.MonkeyPatch, persons: int, block_bytes: int
) -> None:
    monkeypatch.setattr("reid_edge.inference.recognition.BLOCK_BYTES", block_bytes)
    generator = np.random.default_rng(persons)
    # Few directions, so that many images tie; the first person has most of the images. Along
    # an axis a similarity is one product, the same whatever order it is summed in.
    directions = generator.standard_normal((12, 4), dtype=np.float32)
    vectors = directions[generator.integers(12, size=300)]
    whose = generator.integers(persons, size=300).tolist()
    whose = [person if place % 4 == 0 else 0 for place, person in enumerate(whose)]
    entries = [Entry(f"p{n}", f"{place}.jpg", str(place)) for place, n in enumerate(whose)]
    gallery = append(Gallery(embedder.space, "", "flat"), entries, vectors)
    axes = np.eye(4, dtype=np.float32)
    queries, unit = np.concatenate((axes, -axes)), unit_vectors(vectors)
    for count in (1, 5, 100):
        found = identify(gallery, queries, count=count, threshold=0)
        for query, identification in zip(queries, found, strict=True):
            assert list(identification.candidates) == naively(gallery, unit, query, count)


def test_few_persons_do_not_make_the_search_deep(
    embedder: ImageEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [Entry("ann", f"{place}.jpg", str(place)) for place in range(1000)]
    angles = np.linspace(0, 1, 1000, dtype=np.float32)
    vectors = np.stack((np.cos(angles), np.sin(angles)), 1)
    gallery = append(Gallery(embedder.space, "", "flat"), entries, vectors)
    depths = []

    def watch(index: faiss.Index, embeddings: np.ndarray, count: int) -> tuple[Any, Any]:
        depths.append(count)
        return search(index, embeddings, count)

    monkeypatch.setattr("reid_edge.inference.recognition.search", watch)
    found = identify(gallery, array([[1.0, 0.0]] * 20), count=5, threshold=0)
    assert [len(identification.candidates) for identification in found] == [1] * 20
    assert depths == [4]


def test_bad_questions(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the top 0 are asked for"):
        identify(gallery, array([[1.0, 1.0]]), count=0, threshold=0)
    with pytest.raises(DataError, match="do not belong to this gallery"):
        identify(gallery, array([[1.0, 1.0, 1.0]]), count=1, threshold=0)
    with pytest.raises(DataError, match="no such image or folder"):
        query_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images in it"):
        query_images(tmp_path)


def test_verify(embedder: ImageEmbedder, tiny_data: ReidData) -> None:
    first, second = tiny_data.query[0].path, tiny_data.gallery[0].path
    same = verify(embedder, first, first, 0.999)
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert same.same_person
    other = verify(embedder, first, second, 1.0)
    assert not other.same_person
    assert verify(embedder, first, second, other.similarity).same_person
    with pytest.raises(DataError, match="no such image"):
        verify(embedder, first, Path("nowhere.jpg"), 0.5)

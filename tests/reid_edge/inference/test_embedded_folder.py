"""The embeddings of a folder in shards: the product's own, and no shard twice."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reid_edge.core.errors import DataError
from reid_edge.inference.embedded_folder import EmbeddedFolder, embed_folder, walk_images
from reid_edge.inference.embedder import ImageEmbedder, embed_files, load_embedder

Paint = Callable[..., Path]


@pytest.fixture(scope="module")
def embedder(checkpoint_file: Path) -> ImageEmbedder:
    return load_embedder(checkpoint_file)


@pytest.fixture
def folder(tmp_path: Path, paint: Paint) -> Path:
    for number in range(7):
        paint(tmp_path / "images" / f"{number}.png", 30 * number)
    for number in range(6):
        paint(tmp_path / "images" / "b" / "c" / f"{number} ü.png", 29 * number + 7)
    paint(tmp_path / "images" / "a" / "0.png", 99)
    paint(tmp_path / "images" / ".hidden" / "0.png", 98)
    (tmp_path / "images" / "notes.txt").write_text("none")
    return tmp_path / "images"


def rows(output: Path) -> tuple[np.ndarray, list[str]]:
    index = json.loads((output / "index.json").read_text())
    embeddings = np.concatenate([np.load(output / s["embeddings"]) for s in index["shards"]])
    names = [
        name for s in index["shards"] for name in (output / s["names"]).read_text().splitlines()
    ]
    assert len(names) == len(embeddings) == index["images"]
    return embeddings, names


def test_shards_hold_the_embeddings_of_the_product(
    embedder: ImageEmbedder, folder: Path, tmp_path: Path
) -> None:
    made = embed_folder(embedder, folder, tmp_path / "out", shard_size=5, batch_size=3, workers=1)
    assert made == EmbeddedFolder(14, 0, 3, 32, complete=True)  # a shard of whole batches: 6
    embeddings, names = rows(tmp_path / "out")
    assert names == list(walk_images(folder))
    assert names[:8] == [*(f"{n}.png" for n in range(7)), "a/0.png"]
    whole = embed_files(embedder, [folder / name for name in names], batch_size=3)
    assert np.array_equal(embeddings, whole)


def test_what_is_there_is_not_made_again(
    embedder: ImageEmbedder, folder: Path, tmp_path: Path, paint: Paint
) -> None:
    out = tmp_path / "out"

    def go() -> EmbeddedFolder:
        return embed_folder(embedder, folder, out, shard_size=4, batch_size=2)

    go()
    whole = rows(out)[0]
    # As after a kill: one shard is missing, one is half written, one has no names.
    (out / "000000.npy").unlink()
    (out / "000001.npy").write_bytes((out / "000001.npy").read_bytes()[:-100])
    (out / "000002.txt").unlink()
    (out / ".000000.npy.123.tmp").write_bytes(b"half")
    (out / "index.json").unlink()
    made = go()
    assert (made.images, made.known) == (12, 2)
    assert np.array_equal(rows(out)[0], whole)
    assert not list(out.glob("*.tmp")) + list(out.glob(".*.tmp"))
    assert go().known == 14
    # A new image moves those behind it; shards before it stay.
    paint(folder / "a" / "1.png", 55)
    assert (made := go()).known == 8
    assert made.images == 7
    assert rows(out)[1] == list(walk_images(folder))


def test_processes_share_the_shards(embedder: ImageEmbedder, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = (
        embed_folder(embedder, folder, out, shard_size=4, batch_size=4, share=(rank, 2))
        for rank in (0, 1)
    )
    assert (first.images, first.complete) == (8, False)
    assert (second.images, second.complete) == (6, True)
    paths = [folder / name for name in walk_images(folder)]
    assert np.array_equal(rows(out)[0], embed_files(embedder, paths, batch_size=4))


def test_the_output_of_another_model_or_size_stays_as_it_is(
    embedder: ImageEmbedder, folder: Path, tmp_path: Path, checkpoint_file: Path
) -> None:
    out = tmp_path / "out"
    embed_folder(embedder, folder, out, shard_size=8, batch_size=4)
    other = load_embedder(checkpoint_file, input_size=(32, 32))
    with pytest.raises(DataError, match=r"has embeddings of images of 64x32, not of 32x32; name a"):
        embed_folder(other, folder, out, shard_size=8, batch_size=4)
    with pytest.raises(DataError, match=r"8 images in a shard, not 4; name a new folder"):
        embed_folder(embedder, folder, out, shard_size=4, batch_size=4)
    (out / "space.json").unlink()
    with pytest.raises(DataError, match=r"holds \.npy files without space\.json"):
        embed_folder(embedder, folder, out)


def test_what_cannot_be_embedded_is_named(
    embedder: ImageEmbedder, folder: Path, tmp_path: Path, paint: Paint
) -> None:
    (folder / "b" / "c" / "3 ü.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3 ü\.png"):
        embed_folder(embedder, folder, tmp_path / "out", shard_size=4, batch_size=4)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == [
        "000000.npy", "000001.npy",
    ]  # fmt: skip
    assert not (tmp_path / "out" / "index.json").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images in it"):
        embed_folder(embedder, tmp_path / "empty", tmp_path / "other")
    paint(tmp_path / "odd" / "a\nb.png")
    with pytest.raises(DataError, match="a name with a line break cannot be listed"):
        embed_folder(embedder, tmp_path / "odd", tmp_path / "third")


@pytest.mark.slow
def test_a_killed_command_goes_on(
    checkpoint_file: Path, folder: Path, tmp_path: Path, paint: Paint
) -> None:
    for number in range(600):
        paint(folder / "z" / f"{number:04}.png", number)
    command = [
        sys.executable, "-m", "reid_edge", "embed", str(folder), "--output", str(tmp_path / "out"),
        "--weights", str(checkpoint_file), "--shard-size", "4", "--batch-size", "4", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    while not (tmp_path / "out" / "000020.npy").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    done = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert done["known"] >= 80
    assert done["known"] + done["images"] == 614
    paths = [folder / name for name in walk_images(folder)]
    whole = embed_files(load_embedder(checkpoint_file), paths, batch_size=4)
    assert np.array_equal(rows(tmp_path / "out")[0], whole)

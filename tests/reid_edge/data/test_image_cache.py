"""Cached images are those that are decoded, whatever has happened to the file."""

import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_edge.core.errors import DataError
from reid_edge.data import image_cache
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.decoding import load_image
from reid_edge.data.image_cache import MARK_BYTES, ImageCache
from reid_edge.data.loaders import training_loader
from reid_edge.data.readers.market1501 import read_market1501

SIZE = (32, 16)


@pytest.fixture
def paths(tiny_market: Path, tmp_path: Path) -> list[Path]:
    copied = shutil.copytree(tiny_market, tmp_path / "copy")
    return [image.path for image in read_market1501(copied).train][:6]


def file_in(folder: Path) -> Path:
    (file,) = folder.glob("images-*.cache")
    return file


def test_images_are_decoded_once(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ImageCache(tmp_path / "cache", paths, *SIZE)
    expected = [load_image(path, *SIZE) for path in paths]
    for index in (3, 0, 3, 5, 4, 2, 1):
        found = cache.load(index)
        assert np.array_equal(found, expected[index])
        assert (found.dtype, found.strides) == (expected[index].dtype, expected[index].strides)
        assert found.flags.writeable
        found[:] = 0  # is a copy

    def refuse(*_: object) -> None:
        raise AssertionError("was decoded again")

    monkeypatch.setattr(image_cache, "load_image", refuse)
    for again in (ImageCache(tmp_path / "cache", paths, *SIZE), pickle.loads(pickle.dumps(cache))):
        assert all(np.array_equal(again.load(i), expected[i]) for i in range(len(paths)))


def test_damage_is_decoded_again(paths: list[Path], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, paths, *SIZE)
    expected = [cache.load(i) for i in range(len(paths))]
    file = file_in(tmp_path)
    whole = file.read_bytes()
    pixels = len(paths) * MARK_BYTES
    for place in (0, 1, MARK_BYTES - 1, pixels, pixels + 700, len(whole) - 1):
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(bytes([whole[place] ^ 1]))
        assert all(np.array_equal(cache.load(i), expected[i]) for i in range(len(paths)))
        assert file.read_bytes() == whole
    file.write_bytes(whole[:-1])
    assert np.array_equal(ImageCache(tmp_path, paths, *SIZE).load(5), expected[5])


def test_a_file_that_cannot_grow_is_one_line(paths: list[Path], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path / "cache", paths, *SIZE)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, former[1]))
    try:
        with pytest.raises(
            DataError, match=r"cache: cannot be written \(File too large\); make room"
        ):
            cache.load(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert np.array_equal(cache.load(0), load_image(paths[0], *SIZE))


def test_changed_images_and_sizes_have_a_file_of_their_own(
    paths: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    ImageCache(folder, paths, *SIZE).load(0)
    first = file_in(folder)
    shutil.copy(paths[1], paths[0])
    os.utime(paths[0], ns=(1, 1))
    cache = ImageCache(folder, paths, *SIZE)
    assert file_in(folder) != first
    assert np.array_equal(cache.load(0), load_image(paths[1], *SIZE))
    assert ImageCache(folder, paths, 16, 16).load(0).shape == (3, 16, 16)
    paths[2].unlink()
    with pytest.raises(DataError, match="no such image"):
        ImageCache(folder, paths, *SIZE)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot be made \(.*set data.cache false"):
        ImageCache(tmp_path / "file", paths[:1], *SIZE)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_batches(tiny_market: Path, tmp_path: Path, workers: int) -> None:
    images = read_market1501(tiny_market).train

    def batches(cache: Path | None) -> list[torch.Tensor]:
        loader = training_loader(
            images, augmentation=AugmentationSettings(), height=32, width=16,
            identities_per_batch=4, images_per_identity=2, seed=1, workers=workers, cache=cache,
        )  # fmt: skip
        return [images for _ in range(2) for images, _ in loader]

    plain, cached = batches(None), batches(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(plain, cached, strict=True))
    assert len({file_in(tmp_path).stat().st_size}) == 1

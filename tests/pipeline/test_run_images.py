"""Which images a run gets."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config import config_class
from pipeline.run_dir import RunDir
from pipeline.run_images import NOT_DRAWN, read_existing_images, read_images, split_validation
from reid_edge.core.errors import DataError
from reid_edge.data.readers import READERS
from reid_edge.data.readers.market1501 import MARKET1501

Config = config_class()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def config(**data: object) -> Config:
    return Config.model_validate({"data": data})


def test_synthetic_images_are_drawn_into_the_run(run: RunDir) -> None:
    small = {"train_identities": 2, "test_identities": 2, "cameras": 2, "images_per_camera": 2}
    assert read_existing_images(config(synthetic=small), run) == (None, NOT_DRAWN)
    data, digest = read_images(config(synthetic=small), run)
    assert data.root.parent == run.path
    assert read_existing_images(config(synthetic=small), run) == (data, digest)
    other = config(synthetic={**small, "seed": 1})
    assert read_existing_images(other, run) == (None, NOT_DRAWN)
    other_data, other_digest = read_images(other, run)
    assert other_digest != digest
    assert data.root.is_dir()
    assert other_data.root != data.root


def test_training_sets_are_merged(run: RunDir, tiny_market: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_market, tmp_path / "other")
    alone, digest = read_images(config(root=tiny_market), run)
    merged, other_digest = read_images(
        config(root=tiny_market, also_train_on=[{"root": str(other)}]), run
    )
    assert len(merged.train) == 2 * len(alone.train)
    assert len({image.person for image in merged.train}) == 16
    assert merged.query == alone.query
    assert digest != other_digest


def test_options_of_a_reader(run: RunDir, tiny_market: Path, tmp_path: Path) -> None:
    (tmp_path / "campus").mkdir()
    for person in (1, 2, 3):
        for number in (1, 2, 3, 4):
            shade = 60 * person + number
            name = tmp_path / "campus" / f"{person:04d}{number:03d}.png"
            Image.new("RGB", (8, 8), (shade, shade, shade)).save(name)

    def identities(**options: object) -> int:
        source = {"format": "cuhk01", "root": str(tmp_path), "options": options}
        merged, _ = read_images(config(root=tiny_market, also_train_on=[source]), run)
        return len({image.person for image in merged.train})

    # Half of the people of CUHK01 are for the test, unless all are trained on.
    assert identities() == 8 + 1
    assert identities(train_all=True) == 8 + 3
    with pytest.raises(DataError, match="cuhk01 has no option 'train_al': did you mean 'train_all"):
        identities(train_al=True)
    data, _ = read_images(config(root=tmp_path, format="cuhk01", options={"split": 1}), run)
    assert {image.camera for image in data.query} == {2}


def test_a_set_without_test_images_sets_identities_apart(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for person in range(6):
        for number in range(4):
            path = tmp_path / "faces" / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * person, 60 * number, 0)).save(path)
    with caplog.at_level("WARNING", logger="pipeline"):
        data, _ = read_images(
            config(root=tmp_path / "faces", format="folders", test_share=0.34), run
        )
    assert "faces: no cameras: images of the same camera are not dropped" in caplog.text
    trained = {image.person for image in data.train}
    tested = {image.person for image in data.query}
    assert len(trained) == 4
    assert len(tested) == 2
    assert not trained & tested


def test_a_test_set_alone_is_not_run_on(run: RunDir, tiny_market: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(tiny_market, tmp_path / "alone"))
    shutil.rmtree(alone / "bounding_box_train")
    for asked in (config(root=alone), config(root=alone, validation_share=0.25)):
        with pytest.raises(DataError, match=r"alone: no training images, and every run trains"):
            read_images(asked, run)
    merged, _ = read_images(config(root=alone, also_train_on=[{"root": tiny_market}]), run)
    assert len({image.person for image in merged.train}) == 8


def test_an_unknown_format(run: RunDir, tiny_market: Path) -> None:
    with pytest.raises(DataError, match=r"unknown data set 'market'"):
        read_images(config(root=tiny_market, format="market"), run)


def test_validation_identities_are_not_trained_on(run: RunDir, tiny_market: Path) -> None:
    whole, digest = read_images(config(root=tiny_market), run)
    assert split_validation(config(root=tiny_market), whole) == (whole, None)
    asked = config(root=tiny_market, validation_share=0.25)
    data, validation = split_validation(asked, whole)
    assert validation is not None
    held = {*validation.query, *validation.gallery}
    assert {*data.train} | held == {*whole.train}
    assert len({image.person for image in held}) == 2
    assert not {image.person for image in held} & {image.person for image in data.train}
    assert (data.query, data.gallery) == (whole.query, whole.gallery)
    assert split_validation(asked, whole) == (data, validation)
    assert read_images(asked, run)[1] == digest


def test_a_registered_data_set_is_a_format(run: RunDir, tiny_market: Path) -> None:
    expected = read_images(config(root=tiny_market), run)
    READERS.register("twin", replace(MARKET1501, name="twin"))
    try:
        assert read_images(config(root=tiny_market, format="twin"), run) == expected
    finally:
        READERS.unregister("twin")
    with pytest.raises(DataError, match="unknown data set 'twin'"):
        read_images(config(root=tiny_market, format="twin"), run)

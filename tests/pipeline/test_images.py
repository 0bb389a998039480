"""Which images a run gets."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipeline.config import Config
from pipeline.images import NOT_DRAWN, look_at_images, prepare_images, split_validation
from pipeline.run_dir import RunDir
from reid_edge.core.errors import DataError


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.create()
    return run


def config(**data: object) -> Config:
    return Config.model_validate({"data": data})


def test_synthetic_images_are_drawn_into_the_run(run: RunDir) -> None:
    small = {"train_identities": 2, "test_identities": 2, "cameras": 2, "images_per_camera": 2}
    assert look_at_images(config(synthetic=small), run) == (None, NOT_DRAWN)
    data, digest = prepare_images(config(synthetic=small), run)
    assert data.root.parent == run.path
    assert look_at_images(config(synthetic=small), run) == (data, digest)
    other = config(synthetic={**small, "seed": 1})
    assert look_at_images(other, run) == (None, NOT_DRAWN)
    other_data, other_digest = prepare_images(other, run)
    assert other_digest != digest
    assert data.root.is_dir()
    assert other_data.root != data.root


def test_training_sets_are_merged(run: RunDir, tiny_market: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_market, tmp_path / "other")
    alone, digest = prepare_images(config(root=tiny_market), run)
    merged, other_digest = prepare_images(
        config(root=tiny_market, also_train_on=[{"root": str(other)}]), run
    )
    assert len(merged.train) == 2 * len(alone.train)
    assert len({image.person for image in merged.train}) == 16
    assert merged.query == alone.query
    assert digest != other_digest


def test_a_set_without_test_images_sets_identities_apart(
    run: RunDir, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for person in range(6):
        for number in range(4):
            path = tmp_path / "faces" / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * person, 60 * number, 0)).save(path)
    with caplog.at_level("WARNING", logger="pipeline"):
        data, _ = prepare_images(
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
            prepare_images(asked, run)
    merged, _ = prepare_images(config(root=alone, also_train_on=[{"root": tiny_market}]), run)
    assert len({image.person for image in merged.train}) == 8


def test_an_unknown_format(run: RunDir, tiny_market: Path) -> None:
    with pytest.raises(DataError, match=r"unknown data set 'market'"):
        prepare_images(config(root=tiny_market, format="market"), run)


def test_validation_identities_are_not_trained_on(run: RunDir, tiny_market: Path) -> None:
    whole, digest = prepare_images(config(root=tiny_market), run)
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
    assert prepare_images(asked, run)[1] == digest

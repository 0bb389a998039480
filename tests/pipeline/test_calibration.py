"""Images for calibration: evenly over the cameras, apart from those held back, named by hash."""

import hashlib
from pathlib import Path

from pipeline.calibration import describe_images, draw_calibration
from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.stages.quantize import QuantizeStage
from reid_edge.data.schema import ReidData

Config = config_class()


def context_of(data: ReidData, folder: Path, seed: int = 0) -> StageContext:
    return StageContext(
        stage="quantize",
        config=Config(seed=seed),
        settings=QuantizeStage(),
        folder=folder,
        data=data,
        parent=None,
        teacher=None,
        parent_hash="",
        input_size=(64, 32),
    )


def test_images_held_back_are_others_and_change_nothing(
    tiny_data: ReidData, tmp_path: Path
) -> None:
    context = context_of(tiny_data, tmp_path)
    alone = draw_calibration(context, 12, 0)
    both = draw_calibration(context, 12, 10)
    assert alone.calibration == both.calibration
    assert alone.held_back == ()
    assert len(both.held_back) == 10
    assert not set(both.calibration) & set(both.held_back)
    assert set(both.calibration) | set(both.held_back) <= set(tiny_data.train)
    assert [image.camera for image in both.calibration].count(1) == 6
    other = draw_calibration(context_of(tiny_data, tmp_path, seed=1), 12, 10)
    assert other.calibration != both.calibration


def test_a_small_training_set_has_nothing_to_hold_back(tiny_data: ReidData, tmp_path: Path) -> None:
    drawn = draw_calibration(context_of(tiny_data, tmp_path), 1000, 10)
    assert set(drawn.calibration) == set(tiny_data.train)
    assert drawn.held_back == ()


def test_files_are_listed_by_what_is_in_them(tiny_data: ReidData, tmp_path: Path) -> None:
    drawn = draw_calibration(context_of(tiny_data, tmp_path), 5, 0).calibration
    listed = describe_images(drawn, tiny_data.root)
    lines = ""
    for image, entry in zip(drawn, listed.files, strict=True):
        digest = hashlib.sha256(image.path.read_bytes()).hexdigest()
        assert entry.file == f"bounding_box_train/{image.path.name}"
        assert entry.sha256 == digest
        lines += digest + "\n"
    assert listed.images == 5
    assert listed.cameras == {"1": 3, "2": 2}
    assert listed.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_a_file_elsewhere_keeps_its_whole_path(tiny_data: ReidData, tmp_path: Path) -> None:
    image = tiny_data.train[0]
    listed = describe_images([image], tmp_path)
    assert listed.files[0].file == str(image.path)

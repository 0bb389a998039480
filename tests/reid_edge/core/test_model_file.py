from pathlib import Path

import pytest

from reid_edge.core.errors import CheckpointError
from reid_edge.core.model_file import IMAGENET_MEAN, ModelMetadata

FILE = Path("model.onnx")


def test_metadata_comes_back_from_its_strings() -> None:
    metadata = ModelMetadata(
        architecture="osnet_x0_5",
        input_size=(256, 128),
        colour_order="BGR",
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 2.0, 4.0),
        parent_hash="abc",
        threshold=0.375,
        calibration_digest="def",
        engine="qnnpack",
        variant="qat",
        notes={"name": "Ö"},
    )
    strings = metadata.to_strings()
    assert strings["input_size"] == "[256, 128]"
    assert strings["threshold"] == "0.375"
    assert ModelMetadata.from_strings(strings, FILE) == metadata


def test_what_is_not_known_is_left_out_and_read_as_its_default() -> None:
    assert set(ModelMetadata().to_strings()) == {
        "architecture", "colour_order", "mean", "std", "parent_hash",
    }  # fmt: skip
    read = ModelMetadata.from_strings({"std": [1, 1, 1]}, FILE)
    assert (read.std, read.mean, read.input_size) == ((1.0, 1.0, 1.0), IMAGENET_MEAN, None)


def test_a_key_of_an_earlier_version_is_refused() -> None:
    with pytest.raises(CheckpointError) as raised:
        ModelMetadata.from_strings({"deviation": "[1, 1, 1]"}, FILE)
    assert str(raised.value) == (
        "model.onnx: its metadata has 'deviation', which is called 'std' now; export the model "
        "again"
    )


@pytest.mark.parametrize(
    "values",
    [
        {"input_size": "[64]"},
        {"input_size": "sixty"},
        {"mean": "nothing"},
        {"std": 3},
        {"threshold": "high"},
    ],
)
def test_damaged_values_are_refused_in_one_line(values: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match=r"^model\.onnx: damaged metadata \(") as raised:
        ModelMetadata.from_strings(values, FILE)
    assert "\n" not in str(raised.value)

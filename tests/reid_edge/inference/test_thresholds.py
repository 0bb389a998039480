"""A threshold holds for the model file it was measured with, and no other."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reid_edge.core.errors import DataError, ModelError
from reid_edge.inference.embedder import ImageEmbedder, load_embedder
from reid_edge.inference.thresholds import (
    StoredThreshold,
    choose_threshold,
    is_damaged,
    parse_target,
    read_threshold,
    store_threshold,
    threshold_path,
)
from reid_edge.metrics import OperatingPoint, VerificationResult

THRESHOLD = StoredThreshold(0.625, 1e-3, "tiny", 10, 2000)
RESULT = VerificationResult(
    equal_error_rate=0.1,
    equal_error_threshold=0.5,
    operating_points=(
        OperatingPoint(target=1e-3, true_accept_rate=0.8, false_accept_rate=1e-3, threshold=0.625),
        OperatingPoint(
            target=1e-4,
            true_accept_rate=None,
            false_accept_rate=None,
            threshold=None,
            reason="below one in 2000, the number of impostor pairs",
        ),
    ),
    genuine_pairs=10,
    impostor_pairs=2000,
)


@pytest.fixture
def embedder(checkpoint_file: Path, tmp_path: Path) -> ImageEmbedder:
    return load_embedder(Path(shutil.copy(checkpoint_file, tmp_path / "model.pt")))


def without_hash(path: Path) -> str:
    """Return what a version before the hash would have written."""
    content = json.loads(path.read_text())
    del content["content_sha256"]
    return json.dumps(content)


def test_stored_and_read(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    assert path.name == "model.pt.threshold.json"
    assert json.loads(path.read_text())["model"]["file_hash"] == embedder.space.file_hash
    assert read_threshold(embedder) == THRESHOLD
    assert str(THRESHOLD) == "FAR 0.001 on tiny"


def test_a_flipped_bit_is_damage_and_another_threshold_is_none(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    content = path.read_bytes()
    assert not is_damaged(path)
    for bit in range(0, 8 * len(content), 37):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert is_damaged(path), bit
    store_threshold(embedder, replace(THRESHOLD, threshold=0.5))
    assert not is_damaged(path)


def test_none_is_stored(embedder: ImageEmbedder) -> None:
    with pytest.raises(ModelError, match="no threshold is stored with it; measure one with: reid-"):
        read_threshold(embedder)


def test_of_another_model(embedder: ImageEmbedder) -> None:
    store_threshold(embedder, THRESHOLD)
    space = embedder.space
    for other, reason in (
        (replace(space, file_hash="0" * 64), "another model file"),
        (replace(space, input_size=(96, 48)), "images of 64x32, not of 96x48"),
        (replace(space, flip_averaging=True), "flip averaging off"),
    ):
        with pytest.raises(ModelError, match=f"was measured with {reason}; measure one with"):
            read_threshold(replace(embedder, space=other))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"model": {}}', '{"model": {}, "threshold": 1}']
)
def test_damaged(embedder: ImageEmbedder, content: str) -> None:
    threshold_path(embedder.path).write_text(content)
    with pytest.raises(ModelError, match="damaged, or of an earlier version; measure one with"):
        read_threshold(embedder)


def test_of_an_earlier_version(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    content = json.loads(path.read_text())
    # It did not say which architecture the weights were loaded into.
    del content["model"]["architecture"]
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="damaged, or of an earlier version; measure one with"):
        read_threshold(embedder)


def test_every_changed_digit_is_seen(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    content = path.read_text()
    for place, character in enumerate(content):
        if character.isdigit():
            path.write_text(content[:place] + str(9 - int(character)) + content[place + 1 :])
            with pytest.raises(ModelError, match="damaged, or of an earlier version; measure one"):
                read_threshold(embedder)


def test_without_a_hash_it_is_read_as_before(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    path.write_text(without_hash(path))
    assert read_threshold(embedder) == THRESHOLD


def test_damaged_number(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    whole = without_hash(path)
    for number in ("NaN", '"high"', "1.5", "-2", "1e400", "1" + 400 * "0", "null", "[]"):
        path.write_text(whole.replace("0.625", number))
        with pytest.raises(ModelError, match=r"damaged.*; measure one with"):
            read_threshold(embedder)


def test_damaged_target(embedder: ImageEmbedder) -> None:
    path = store_threshold(embedder, THRESHOLD)
    whole = without_hash(path)
    for target in ("null", "[]", "2", '"often"', "1" + 400 * "0", "[" * 100_000):
        path.write_text(whole.replace("0.001", target))
        with pytest.raises(
            ModelError, match=r"damaged, or of an earlier version; measure one with"
        ):
            read_threshold(embedder)
    for text, target in (('"eer"', "eer"), ('"0.5"', 0.5)):
        path.write_text(whole.replace("0.001", text))
        assert read_threshold(embedder).target == target


def test_targets() -> None:
    assert parse_target("EER") == "eer"
    assert parse_target("1e-3") == 1e-3
    for text in ("0", "1", "-1", "nan", "often"):
        with pytest.raises(DataError, match="expected a false accept rate or 'eer'"):
            parse_target(text)


def test_choice() -> None:
    assert choose_threshold(RESULT, 1e-3, "tiny") == THRESHOLD
    chosen = choose_threshold(RESULT, "eer", "tiny")
    assert (chosen.threshold, str(chosen)) == (0.5, "equal error rate on tiny")
    with pytest.raises(DataError, match=r"no threshold .* rate of 0\.0001: below one in 2000"):
        choose_threshold(RESULT, 1e-4, "tiny")


def test_nowhere_to_write(embedder: ImageEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    threshold_path(embedder.path).mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        store_threshold(embedder, THRESHOLD)

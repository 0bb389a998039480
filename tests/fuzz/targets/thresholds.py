"""Thresholds that are stored beside a model file."""

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from reid_edge.inference.embedder import EmbeddingSpace, ImageEmbedder
from reid_edge.inference.thresholds import (
    StoredThreshold,
    read_threshold,
    store_threshold,
    threshold_path,
)
from tests.fuzz.target import Damage, Target, apply_damage, damaged

SPACE = EmbeddingSpace(
    file_hash="0" * 64, input_size=(64, 32), flip_averaging=False, architecture="osnet_x0_25",
    mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), colour_order="RGB",
)  # fmt: skip
VALUES = (
    None,
    True,
    "x",
    1e308,
    -1,
    [],
    {},
    [1],
    {"a": 1},
    10**400,
    float("nan"),
    float("inf"),
    "",
)
KEYS = ("threshold", "target", "measured_on", "genuine_pairs", "impostor_pairs", "model", "other")


def run(value: tuple[tuple[int, list[Damage]], dict[str, int]], folder: Path) -> None:
    """Read the threshold."""
    embedder = ImageEmbedder(
        lambda images: np.asarray(images), SPACE, "test", folder / "model.onnx"
    )
    store_threshold(embedder, StoredThreshold(0.5, "eer", "test", 10, 20))
    path = threshold_path(embedder.path)
    content = json.loads(path.read_text()) | {key: VALUES[n] for key, n in value[1].items()}
    path.write_bytes(apply_damage(json.dumps(content).encode(), value[0][1]))
    f"{read_threshold(embedder).threshold:.3f}"


TARGET = Target(
    "threshold JSON",
    st.tuples(
        damaged(2),
        st.dictionaries(st.sampled_from(KEYS), st.integers(0, len(VALUES) - 1), max_size=2),
    ),
    run,
    known=[((0, []), {key: number}) for key in KEYS for number in range(len(VALUES))]
    + [((0, [("cut", 0, b"x"), ("insert", 0, b"[" * 8), ("repeat", 0, b"\xff" * 8)] * 3), {})],
)

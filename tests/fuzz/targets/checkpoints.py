"""Checkpoints: damaged bytes, and dictionaries of odd content."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from reid_edge.inference.embedder import load_embedder
from reid_edge.models import build_model
from reid_edge.models.checkpoint import describe
from tests.fuzz.target import Damage, Target, apply_damage, damaged

ODD: dict[str, Any] = {
    "none": None, "text": "x", "huge": 10**30, "minus": -1, "nan": float("nan"), "list": [1, "a"],
    "nested": {"a": {1: 2}}, "empty": {}, "numbers": {1: torch.zeros(1)},
    "integers": {"conv1.conv.weight": torch.zeros(1, dtype=torch.int64)},
    "sparse": {"conv1.conv.weight": torch.eye(3).to_sparse()},
    "meta": {"conv1.conv.weight": torch.zeros(2, device="meta")},
    "pair": (1, 2), "zeros": (0, 0), "bytes": b"\xff",
}  # fmt: skip
KEYS = (
    "state_dict", "architecture", "input_size", "mean", "std", "num_classes", "embedding_dim",
    "colour_order", "format_version", "metrics", "widths", "parent_hash", "net", "other",
)  # fmt: skip


@cache
def content() -> dict[str, Any]:
    """Return the content of a checkpoint of the smallest model."""
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=2, embedding_dim=8)
    info = describe(model, "osnet_x0_25", input_size=(64, 32))
    return {**vars(info), "state_dict": model.state_dict()}


def run(value: tuple[tuple[int, list[Damage]], dict[str, str]], folder: Path) -> None:
    """Load the file as the commands do."""
    path, stream = folder / "osnet_x0_25.pt", io.BytesIO()
    torch.save({**content(), **{key: ODD[odd] for key, odd in value[1].items()}}, stream)
    path.write_bytes(apply_damage(stream.getvalue(), value[0][1]))
    load_embedder(path)


TARGET = Target(
    "checkpoints",
    st.tuples(
        damaged(2),
        st.dictionaries(st.sampled_from(KEYS), st.sampled_from(sorted(ODD)), max_size=2),
    ),
    run,
    known=[((0, []), {key: odd}) for key in ("state_dict", "mean") for odd in ODD]
    + [((0, [("cut", at, b"x")]), {}) for at in (0, 10, 1000)],
)

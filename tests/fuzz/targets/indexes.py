"""Folders of an index of identities, damaged."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from reid_edge.inference.gallery import Entry, Gallery, append, open_gallery, save_gallery
from tests.fuzz.target import Damage, Target, apply_damage, damaged
from tests.fuzz.targets.thresholds import SPACE


def run(value: tuple[tuple[int, list[Damage]], bool], folder: Path) -> None:
    """Open an index of which one file is damaged or missing."""
    (number, changes), missing = value
    index = folder / "index"
    empty = Gallery(SPACE, "model.onnx", "flat", (), None, 0)
    entries = [Entry("person", "a.jpg", "0" * 64)]
    save_gallery(index, append(empty, entries, np.ones((1, 4), dtype=np.float32)))
    files = sorted(path for path in index.rglob("*") if path.is_file())
    path = files[number % len(files)]
    if missing:
        path.unlink()
    else:
        path.write_bytes(apply_damage(path.read_bytes(), changes))
    open_gallery(index, SPACE)


TARGET = Target(
    "index folders",
    st.tuples(damaged(), st.booleans()),
    run,
    known=[((number, [("cut", 0, b"x")]), missing)
           for number in range(5) for missing in (False, True)],
)  # fmt: skip

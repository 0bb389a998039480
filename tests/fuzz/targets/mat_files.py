"""``cuhk-03.mat`` and the lists of CUHK03's new protocol, damaged."""

import io
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from reid_edge.data.readers.cuhk03_files import extract_images, read_new_protocol
from tests.fuzz.target import Damage, Target, apply_damage, damaged


@cache
def valid(hdf5: bool) -> bytes:
    """Return the images (HDF5) or the lists (MATLAB 5)."""
    stream = io.BytesIO()
    if not hdf5:
        lists = {name: np.array([[1], [2]]) for name in ("train_idx", "query_idx", "gallery_idx")}
        names = np.array([["1_001_1_01.png"], ["1_001_2_06.png"]], dtype=object)
        scipy.io.savemat(stream, {**lists, "filelist": names})
        return stream.getvalue()
    with h5py.File(stream, "w") as file:
        image = file.create_dataset("image", data=np.zeros((3, 4, 5), dtype=np.uint8))
        cells = file.create_dataset("cells", (1, 1), dtype=h5py.ref_dtype)
        cells[0, 0] = image.ref
        pairs = file.create_dataset("detected", (1, 1), dtype=h5py.ref_dtype)
        pairs[0, 0] = cells.ref
    return stream.getvalue()


def run(value: tuple[int, list[Damage]], folder: Path) -> None:
    """Read the file as the reader does."""
    hdf5 = bool(value[0] % 2)
    content = apply_damage(valid(hdf5), value[1])
    if hdf5:
        (folder / "cuhk-03.mat").write_bytes(content)
        extract_images(folder / "cuhk-03.mat", "detected", folder / "images")
    else:
        (folder / "cuhk03_new_protocol_config_detected.mat").write_bytes(content)
        read_new_protocol(folder, "detected")


TARGET = Target(
    ".mat",
    damaged(),
    run,
    known=[(kind, [("cut", at, b"x")]) for kind in (0, 1) for at in (0, 100, 130, 600)],
)

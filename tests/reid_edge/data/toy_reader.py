"""A data set that is declared outside of the project: one folder, names such as ``ann-7-3.png``."""

from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.names import number_names
from reid_edge.data.paths import existing_folder, list_images
from reid_edge.data.reader import Reader
from reid_edge.data.schema import Counts, ReidData, Sample


def read_toy(root: Path, *, train_all: bool = False) -> ReidData:
    """Read names of the form ``<person>-<camera>-<number>``; ``test`` holds query and gallery."""
    names = [path for path in list_images(existing_folder(root)) if path.stem.count("-") == 2]
    if not names:
        raise DataError(f"{root}: no images such as ann-7-3.png in it")
    persons = number_names(path.stem.split("-")[0] for path in names)
    images = [
        Sample(path, persons[path.stem.split("-")[0]], int(path.stem.split("-")[1]))
        for path in names
    ]
    train = tuple(image for image in images if image.person > 2 or train_all)
    test = [image for image in images if image.person <= 2]
    query = tuple(image for image in test if image.camera == 1)
    return ReidData(root, train, query, tuple(image for image in test if image.camera != 1))


TOY = Reader(
    name="toy",
    layout="`toy.txt` beside images such as `ann-7-3.png`",
    read=read_toy,
    marks=("toy.txt",),
    options={"train_all": False},
    counts=(Counts(4, 2, 2, 2, 2),),
)

"""One's own images, listed in CSV files: ``img_path,person_id[,camera_id]``."""

import csv
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.data.identities import stand_in_cameras
from reid_edge.data.names import clean_name, is_junk, is_missing, notes_on_names, number_names
from reid_edge.data.paths import ImageFinder, check_regular, expand_home, path_order
from reid_edge.data.reader import Reader
from reid_edge.data.schema import ReidData, Sample, sort_images

SPLITS = ("train", "query", "gallery")
PATH, PERSON, CAMERA = "img_path", "person_id", "camera_id"
# The short ones are torchreid's.
ALIASES = {
    "pid": PERSON, "camid": CAMERA, "cam_id": CAMERA, "camera": CAMERA,
}  # fmt: skip
CAMERA_LIKENESS = 0.75
# Spreadsheets of many countries separate cells by a semicolon.
DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a list: the image, its person and camera as they are written, and where."""

    path: Path
    person: str
    camera: str
    file: Path
    line: int

    @property
    def where(self) -> str:
        """Say which line it is."""
        return f"{self.file} line {self.line}"


def read_csv_lists(root: Path) -> ReidData:
    """Read images that CSV files list.

    Paths are relative to the folder of the CSV file and stay within it. Persons and cameras may
    be numbers or words, the same in all files; whole numbers are the same in whatever form, such
    as ``1``, ``01`` and ``1.0`` (see `group_names`). Columns are named in capitals or small
    letters; ``pid`` is ``person_id``; ``camid``, ``cam_id`` and ``camera`` are ``camera_id``.

    Without ``camera_id`` no two images of a person share a camera (see `stand_in_cameras`), so
    that the protocol drops nothing but a query's own image. Person ``-1`` is junk, as in
    Market-1501, and is dropped; so is MARS's ``00-1``.

    Args:
        root: a folder with any of ``train.csv``, ``query.csv`` and ``gallery.csv``, the last two
            together; or one CSV file, or a folder with just one: all of it is training set then.

    Raises:
        DataError: a file, a column, an image or a person is missing, a column is named nearly as
            that of the cameras is, a path leads out of the folder, an image is listed twice, or
            only some lines name a camera.
    """
    root = expand_home(root)
    files = _find_files(root)
    base = next(iter(files.values())).parent.resolve()
    read = {split: list(_read_rows(file, base)) for split, file in files.items()}
    junk = cache(is_junk)
    rows = {split: [row for row in found if not junk(row.person)] for split, found in read.items()}
    everything = [row for found in rows.values() for row in found]
    persons = number_names(row.person for row in everything)
    numbers = number_names(row.camera for row in everything if row.camera)
    known: dict[str, Row] = {}
    for row in everything:
        other = known.setdefault(path_order(row.path), row)
        if persons[other.person] != persons[row.person] or (
            numbers.get(other.camera) != numbers.get(row.camera)
        ):
            raise DataError(
                f"{row.where}: {row.path.name} has another person or camera than in {other.where}"
            )
    del known
    bare = [row for row in everything if not row.camera]
    if bare and len(bare) < len(everything):
        raise DataError(f"{bare[0].where}: no {CAMERA}, but other lines have one; give all or none")
    stand_in: dict[Path, int] = {}
    if bare:
        stand_in = stand_in_cameras((persons[row.person], row.path) for row in everything)
    splits = {
        split: tuple(
            sort_images(
                Sample(
                    row.path,
                    persons[row.person],
                    stand_in[row.path] if bare else numbers[row.camera],
                )
                for row in found
            )
        )
        for split, found in rows.items()
    }
    train, query, gallery = (splits.get(split, ()) for split in SPLITS)
    return ReidData(
        base,
        train,
        query,
        gallery,
        has_cameras=not bare,
        junk=sum(map(len, read.values())) - len(everything),
        notes=(*notes_on_names("person", persons), *notes_on_names("camera", numbers)),
    )


def _find_files(root: Path) -> dict[str, Path]:
    """Return the CSV file of each split that there is."""
    if root.is_file():
        return {"train": root}
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or CSV file")
    files = {split: root / f"{split}.csv" for split in SPLITS if (root / f"{split}.csv").is_file()}
    if ("query" in files) != ("gallery" in files):
        raise DataError(f"{root}: query.csv and gallery.csv go together; one of them is missing")
    if files:
        return files
    lists = sorted(path for path in root.glob("*.csv") if path.is_file())
    if len(lists) == 1:
        return {"train": lists[0]}
    found = ", ".join(path.name for path in lists[:3]) or "none"
    raise DataError(
        f"{root}: expected train.csv, query.csv and gallery.csv, or a single CSV file; "
        f"found {found}"
    )


def _read_rows(file: Path, base: Path) -> Iterator[Row]:
    """Yield the lines of a file."""
    check_regular(file)
    images, seen = ImageFinder(base), dict[str, int]()
    # A list of a million lines names few persons and cameras, each many times.
    clean, missing = cache(clean_name), cache(is_missing)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            first = stream.readline()
            stream.seek(0)
            delimiter = max(DELIMITERS, key=first.count)
            lines = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
            names = _read_columns(file, next(lines, []))
            last = lines.line_num
            for line in lines:
                start, last = last + 1, lines.line_num
                where = f"{file} line {last}"
                cells = [cell.strip() for cell in line]
                if not any(cells):
                    continue
                if any(cells[len(names) :]):
                    raise DataError(
                        f"{where}: {len(cells)} cells, but the first line names {len(names)}; "
                        f"put a cell with {delimiter!r} in it into quotation marks"
                    )
                values = dict(zip(names, cells, strict=False))
                text = values.get(PATH, "")
                person, camera = clean(values.get(PERSON, "")), clean(values.get(CAMERA, ""))
                if last > start and any(
                    "\n" in cell or "\r" in cell for cell in (text, person, camera)
                ):
                    raise DataError(f"{where}: a line break in a cell; is a quotation mark open?")
                if not text or missing(person):
                    empty = not (text and person)
                    raise DataError(
                        f"{where}: {PERSON if text else PATH} is "
                        + ("empty" if empty else f"{person!r}, a missing value; name the person")
                    )
                path = images.find(text, where)
                before = seen.setdefault(path_order(path), last)
                if before != last:
                    raise DataError(f"{where}: the image is in line {before} already")
                yield Row(path, person, "" if missing(camera) else camera, file, last)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from error
    if not seen:
        raise DataError(f"{file}: no images in it")


def _read_columns(file: Path, written: Sequence[str]) -> list[str]:
    """Name the columns as this module does, the others as they are."""
    plain = [name.strip().casefold() for name in written]
    names = [ALIASES.get(name, name) for name in plain]
    missing = [name for name in (PATH, PERSON) if name not in names]
    if missing:
        raise DataError(
            f"{file}: no column {' and '.join(missing)} in the first line; "
            f"expected {PATH},{PERSON} and perhaps {CAMERA}, found {','.join(written) or 'nothing'}"
        )
    for name in (PATH, PERSON, CAMERA):
        meant = [text for text, read in zip(written, names, strict=True) if read == name]
        if len(meant) > 1:
            raise DataError(f"{file}: columns {' and '.join(meant)} all mean {name}; keep one")
    if CAMERA not in names:
        # A camera column under another name must not be ignored: results would be far too good.
        near = difflib.get_close_matches(CAMERA, plain, n=1, cutoff=CAMERA_LIKENESS)
        like = [name for name in plain if "cam" in name] or near
        if like:
            raise DataError(
                f"{file}: column {like[0]!r} is not known; name it {CAMERA} if it has the cameras, "
                "otherwise take it out or give it a name unlike that"
            )
    return names


CSV = Reader(
    name="csv",
    layout="one's own images, listed in `train.csv`, `query.csv`, `gallery.csv` or a single CSV "
    "file with the columns `img_path`, `person_id` and, if known, `camera_id`",
    read=read_csv_lists,
    marks=("*.csv",),
    file_suffix=".csv",
)

"""Reading a data set by name or declaration, and recognising one by what is in its folder."""

from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.core.suggestions import did_you_mean
from reid_edge.data.paths import existing_folder, expand_home, is_archive
from reid_edge.data.reader import Reader
from reid_edge.data.readers import READERS
from reid_edge.data.schema import ReidData


def find_reader(reader: Reader | str) -> Reader:
    """Return the declaration of a data set that is given by name or as itself.

    Raises:
        DataError: the name is not known; the message names the nearest known one.
    """
    return READERS.load(reader) if isinstance(reader, str) else reader


def read_source(
    reader: Reader | str, root: Path | str, *, progress: Progress | None = None, **options: object
) -> ReidData:
    """Read a data set.

    Args:
        reader: a name in ``READERS``, or a declaration, which need not be registered.
        root: its folder, or one that wraps it.
        progress: called where reading means extracting images first.
        options: what the reader takes beyond the folder, such as ``train_all`` of MSMT17 and
            ``split`` of CUHK03's classic protocol.

    Raises:
        DataError: the name or an option is not known, an option is of another type than its
            default value, or the reader's own reasons.
    """
    reader = find_reader(reader)
    for option, value in options.items():
        if option not in reader.options:
            known = sorted(reader.options)
            takes = (
                f"{did_you_mean(option, known)}known are {', '.join(known)}"
                if known
                else "it takes none"
            )
            raise DataError(f"{reader.name} has no option {option!r}: {takes}")
        kind = type(reader.options[option])
        if type(value) is not kind:
            raise DataError(
                f"{reader.name}: option {option} is {value!r}; expected "
                + ("true or false" if kind is bool else f"a value such as {reader.options[option]}")
            )
    if reader.extracts:
        options["progress"] = progress
    return reader.read(Path(root), **options)


def chosen_split(name: str, split: int | None = None) -> int | None:
    """Return which of its splits a data set is read with, or none where it has only one.

    Args:
        name: in ``READERS``.
        split: the one that was asked for, if any.
    """
    default = READERS.load(name).options.get("split")
    return default if split is None and isinstance(default, int) else split


def recognise_sources(root: Path) -> list[str]:
    """Tell by what is in a folder which data sets it can be read as.

    Args:
        root: the data set's folder, or a single file that is one, such as a CSV file.

    Returns:
        Names in ``READERS``, the one that it is read as first. There are several where, say,
        CUHK03's images of both kinds of boxes are there.

    Raises:
        DataError: it does not look like any.
    """
    root = expand_home(root)
    readers = dict(READERS.items())
    if root.is_file():
        found = [name for name, reader in readers.items() if reader.is_file(root)]
        if found:
            return found
        if is_archive(root):
            raise DataError(
                f"{root}: an archive; unpack it with: reid-edge prepare NAME --from {root}"
            )
    root = existing_folder(root)
    found = [name for name, reader in readers.items() if reader.looks_like(root)]
    if not found and any(p.is_dir() and not p.name.startswith(".") for p in root.iterdir()):
        found = [name for name, reader in readers.items() if reader.any_folders]
    if not found:
        raise DataError(
            f"{root}: looks like no data set that is known; name one of {', '.join(readers)}"
        )
    return found

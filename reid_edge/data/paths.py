"""Folders of images, and paths from data files and archives, which must stay in their folder."""

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from reid_edge.core.errors import DataError
from reid_edge.core.file_kinds import kind_of_file

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff",
)  # fmt: skip

# Images that are not read.
OTHER_IMAGE_SUFFIXES = (".gif", ".jfif", ".heic", ".heif", ".avif", ".jp2", ".jxl")

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_DRIVE = re.compile(r"^[A-Za-z]:")


def relative_path(text: str, where: str) -> PurePosixPath:
    """Read a relative path and check that it stays in its folder, on every system.

    Args:
        text: with slashes or backslashes.
        where: the beginning of a message.

    Raises:
        DataError: the path is empty or absolute, or climbs with ``..``.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if not path.parts or "\0" in text:
        raise DataError(f"{where}: {text!r} is no path")
    if path.is_absolute() or _DRIVE.match(text):
        raise DataError(f"{where}: the path {text!r} is absolute; it must be relative")
    if ".." in path.parts:
        raise DataError(f"{where}: the path {text!r} climbs out of the folder with '..'")
    return path


def check_regular(path: Path) -> None:
    """Check that a path, or what a link leads to, is a regular file, if it exists.

    A program waits forever for somebody to write into a FIFO, and reads a device without end.

    Raises:
        DataError: it is a FIFO, a device or a socket; folders pass.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it says more
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
        raise DataError(f"{path}: is a {kind}; expected a file")


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that ``reid-edge prepare`` unpacks."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def image_inside(root: Path, text: str, where: str) -> Path:
    """Find the image that a data file names inside the folder of the data set.

    Args:
        root: the folder, already resolved.
        text: the path as the data file gives it, relative to ``root``.
        where: the beginning of a message, such as the file and its line.

    Raises:
        DataError: the path leads out of ``root``, by itself or by a symbolic link, or there is no
            file.
    """
    path = root / relative_path(text, where)
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{where}: no such image: {text!r}") from error
    if not real.is_relative_to(root):
        raise DataError(f"{where}: the path {text!r} leads out of {root} by a symbolic link")
    if not real.is_file():
        raise DataError(f"{where}: {text!r} is no image file")
    return path


class ImageFinder:
    """Finds the images that a data file names, as `image_inside` does, with one look at each.

    A folder is resolved once for all images in it.

    Args:
        root: the folder of the data set, already resolved.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # By folder as it is written, "a/b/" say: the folder, and where it is without links.
        self._folders: dict[str, tuple[Path, str] | None] = {}

    def find(self, text: str, where: str) -> Path:
        """Return what `image_inside` returns, and raise what it raises."""
        cut = text.replace("\\", "/").rfind("/") + 1
        written, name = text[:cut], text[cut:]
        if written not in self._folders:
            self._folders[written] = self._resolve(written, where)
        folder = self._folders[written]
        if folder is not None and name not in ("", ".", "..") and not _DRIVE.match(name):
            path, real = folder
            try:
                if stat.S_ISREG(os.lstat(f"{real}{os.sep}{name}").st_mode):
                    return path / name
            except (OSError, ValueError):
                pass  # below it is said what is wrong
        return image_inside(self._root, text, where)

    def _resolve(self, written: str, where: str) -> tuple[Path, str] | None:
        """Return a folder and the same without links; None if it leads out or is not there."""
        try:
            path = self._root / relative_path(written, where) if written else self._root
            real = path.resolve(strict=True)
        except (DataError, OSError, RuntimeError, ValueError):
            return None
        return (path, str(real)) if real.is_relative_to(self._root) else None


def path_order(path: Path) -> str:
    """Return what sorts paths as they sort themselves, folder by folder, in less time."""
    return os.path.normcase(path).replace(os.sep, "\0")


def expand_home(path: Path) -> Path:
    """Expand a leading ``~`` or ``~user``.

    Raises:
        DataError: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{path}: '{path.parts[0]}' is the home of nobody here; write the path out"
        ) from error


def existing_folder(path: Path) -> Path:
    """Expand a leading ``~`` and check that the folder exists.

    Raises:
        DataError: there is no such folder, or it is a file.
    """
    folder = expand_home(path)
    if not folder.is_dir():
        if not folder.exists():
            raise DataError(f"{folder}: no such folder")
        kind = kind_of_file(folder) or "a file"
        hint = "; cut the persons out of its frames first" if "video" in kind else ""
        raise DataError(f"{folder}: is {kind}; expected a folder{hint}")
    return folder


def find_base(
    root: Path, wrappings: Iterable[str], is_base: Callable[[Path], bool], expected: str
) -> Path:
    """Find a data set in a folder or in one of the folders it is usually wrapped in.

    Args:
        root: where to look first.
        wrappings: relative paths below it.
        is_base: whether a folder is the data set's.
        expected: what a message says was expected.

    Raises:
        DataError: there is no such folder, or the data set is in none of them.
    """
    root = existing_folder(root)
    for wrapping in ("", *wrappings):
        if is_base(root / wrapping):
            return root / wrapping
    raise DataError(f"{root}: expected {expected}")


def inner_folders(folder: Path) -> list[Path]:
    """List the folders in a folder by name.

    Hidden folders are left out, and those that network drives and archives add (``@eaDir``,
    ``__MACOSX``).
    """
    with os.scandir(folder) as entries:
        return sorted(Path(entry) for entry in entries if entry.is_dir() and _is_data(entry.name))


def holds_images(folder: Path) -> bool:
    """Tell whether there is an image in a folder or, at any depth, in a folder within it."""
    for _, folders, names in os.walk(folder):
        folders[:] = filter(_is_data, folders)
        if any(_is_data(name) and name.lower().endswith(IMAGE_SUFFIXES) for name in names):
            return True
    return False


def images_within(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """List the images in a folder at any depth by path, as `inner_folders` leaves folders out.

    Links to folders are followed; a folder that is reached twice is read once.

    Args:
        folder: the folder.
        suffixes: of the images, in lower case.

    Raises:
        DataError: a link leads to a folder that holds this one.
    """
    found = []
    for place, names in _walk_with_links(folder):
        found += [
            Path(place, name)
            for name in names
            if _is_data(name) and name.lower().endswith(suffixes)
        ]
    return sorted(found)


def _walk_with_links(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and all within it, each once, with the names of its files."""
    root = os.path.realpath(folder)
    walked: set[str] = set()
    pending = deque([folder])
    while pending:
        start = pending.popleft()
        real = os.path.realpath(start)
        if start != folder and real != root and Path(root).is_relative_to(real):
            raise DataError(f"{start}: is a link to {real}, which holds {root}; take it out")
        for place, folders, names in os.walk(start):
            # There are no links between start and place.
            real_place = real + place[len(str(start)) :]
            if real_place in walked:
                folders.clear()
                continue
            walked.add(real_place)
            folders[:] = sorted(filter(_is_data, folders))
            yield place, names
            within = (Path(place, name) for name in folders)
            pending += (path for path in within if path.is_symlink())


def images_of(folder: Path, whose: str, hint: str) -> list[Path]:
    """List the images in somebody's folder by name.

    Args:
        folder: the folder.
        whose: the owner in a message, such as "a person".
        hint: the end of a message.

    Raises:
        DataError: a folder within it has images too, which would not be read.
    """
    for inner in inner_folders(folder):
        if holds_images(inner):
            raise DataError(
                f"{inner}: has images and is not read, being a folder within that of {whose}, "
                f"{folder.name!r}; {hint}"
            )
    return list_images(folder)


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name not in ("@eaDir", "__MACOSX")


def list_images(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> list[Path]:
    """List a folder's images by name, without hidden files."""
    known = tuple(suffixes)
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in known and not path.name.startswith(".")
    )
    return sorted(found, key=path_order)

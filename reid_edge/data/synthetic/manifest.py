"""``synthetic.json``: what a finished data set of synthetic images was made with."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reid_edge.core.errors import DataError
from reid_edge.data.synthetic.market import FOLDERS, entries
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings

MANIFEST = "synthetic.json"
# Raise this with every change that changes an image, a name or the manifest itself.
FORMAT = 1


def describe(settings: SyntheticSettings) -> dict[str, Any]:
    """Return the manifest of a data set: format, settings, images in each folder."""
    counts = Counter(entry.path.parts[0] for entry in entries(settings))
    images = {folder: counts[folder] for folder in FOLDERS}
    return {"format": FORMAT, "settings": asdict(settings), "images": images}


def is_finished(folder: Path, settings: SyntheticSettings) -> bool:
    """Say whether the folder already holds this data set; False where there is nothing at all.

    Raises:
        DataError: something else is there.
    """
    return holds(folder, describe(settings))


def holds(folder: Path, wanted: dict[str, Any]) -> bool:
    """Say whether a folder holds what a manifest says; False where there is nothing at all.

    Args:
        folder: that holds it, or does not exist yet.
        wanted: with ``format``, ``settings``, and ``images``, their number in each folder.

    Raises:
        DataError: something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = "name another folder or remove this one"
    if not folder.is_dir():
        raise DataError(f"{folder} is a file, not a folder for synthetic images: {advice}")
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds something other than synthetic images: {advice}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): {advice}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a manifest of synthetic images: {advice}")
    if found.get("format") != wanted["format"]:
        raise DataError(f"{folder} was made by another version of this program: {advice}")
    given, asked = found.get("settings"), wanted["settings"]
    if given != asked:
        what = (
            ", ".join(
                f"{name} {given.get(name)}, not {value}"
                for name, value in asked.items()
                if given.get(name) != value
            )
            if isinstance(given, dict)
            else "none recorded"
        )
        raise DataError(f"{folder} was made with other settings ({what}): {advice}")
    for name, count in wanted["images"].items():
        present = sum(1 for _ in (folder / name).glob("*.jpg"))
        if present != count:
            raise DataError(f"{folder / name} has {present} of its {count} images: {advice}")
    return True

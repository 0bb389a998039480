"""Names of persons and cameras in data files: numbers in any form, words, junk, missing values."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

JUNK = -1
# Images of Market-1501 and MARS that show nobody: "0000_c1s1_000151_01.jpg", "0000C1T0001F001.jpg".
_DISTRACTOR = re.compile(r"0000(?:_c|C)\d")
# What pandas and spreadsheets write for a missing value, in their spelling: "Nan" is a name.
MISSING = frozenset(
    (
        "", "nan", "NaN", "-nan", "-NaN", "None", "none", "NULL", "null", "NA", "N/A", "n/a",
        "<NA>", "<NULL>", "#N/A", "#N/A N/A", "#NA", "NaT", "#REF!", "#VALUE!", "#NAME?",
    )
)  # fmt: skip
# A decimal comma is one with a zero or two behind it; "1,000" may be a thousand.
_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{0,40}|,00?)?(?:[eE][+-]?\d{1,3})?")
# It may be a number of base 16, as parts of hashes are.
_BARE_EXPONENT = re.compile(r"\d+[eE]\d+")
# Neither byte order marks within a file nor these spaces count as white space.
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
MOST_DIGITS = 9


def clean_name(text: str) -> str:
    """Remove white space around a name, and compose its letters as NFC does (macOS does not)."""
    return unicodedata.normalize("NFC", text.strip().strip(_INVISIBLE).strip())


def whole_number(text: str) -> int | None:
    """Read a whole number in any form: ``1``, ``01``, ``1.0``, ``1,0``, ``+1``, ``1e0``.

    The digits may be those of any script. None where the text is no whole number.
    """
    plain = clean_name(text).replace("\N{MINUS SIGN}", "-")
    if not _NUMBER.fullmatch(plain):
        return None
    value = Decimal(plain.replace(",", "."))
    return int(value) if value == value.to_integral_value() else None


def is_missing(name: str) -> bool:
    """Tell whether a name is empty or stands for a missing value, as ``nan`` and ``NULL`` do."""
    return clean_name(name) in MISSING


def is_junk(name: str) -> bool:
    """Tell whether a name is that of junk: ``-1`` in any form; MARS writes ``00-1``."""
    return whole_number(name) == JUNK or bool(re.fullmatch(r"0{2,}-1", clean_name(name)))


def group_names(names: Iterable[str]) -> dict[int | str, list[str]]:
    """Group the names that mean the same person or the same camera.

    Whole numbers are the same in whatever form they are written, words if they are the same
    letters. A name such as ``1e5`` is a number only if all names are; it may be hexadecimal.

    Returns:
        By number or word, the forms in which it is written, sorted.
    """
    written = sorted(set(names))
    numbers = [whole_number(name) for name in written]
    if None in numbers:
        numbers = [
            None if _BARE_EXPONENT.fullmatch(clean_name(name)) else number
            for name, number in zip(written, numbers, strict=True)
        ]
    groups: dict[int | str, list[str]] = {}
    for name, number in zip(written, numbers, strict=True):
        groups.setdefault(clean_name(name) if number is None else number, []).append(name)
    return groups


def number_names(names: Iterable[str]) -> dict[str, int]:
    """Give every person or camera a number of its own, the same on every machine.

    Names that mean the same (see `group_names`) have the same number. If all are whole numbers,
    they keep them (``"0002"`` is 2), unless one is negative, or has ten digits or characters
    or more. Otherwise they are numbered from 1 in the order of sorting.
    """
    groups = group_names(names)
    if all(isinstance(key, int) and 0 <= key < 10**MOST_DIGITS for key in groups) and all(
        len(form) <= MOST_DIGITS for forms in groups.values() for form in forms
    ):
        return {form: int(key) for key, forms in groups.items() for form in forms}
    return {
        form: number
        for number, forms in enumerate(sorted(groups.values()), start=1)
        for form in forms
    }


def notes_on_names(kind: str, names: Iterable[str]) -> list[str]:
    """Say what may be a mistake in how persons or cameras are written.

    Args:
        kind: "person" or "camera".
        names: all of a data set, as they are written.
    """
    groups = group_names(names)
    notes = []
    mixed = [forms for forms in groups.values() if len(forms) > 1]
    if mixed:
        forms = " and ".join(map(repr, mixed[0]))
        more = f"; so are {len(mixed) - 1} more" if len(mixed) > 1 else ""
        notes.append(f"one {kind} is written {forms}{more}")
    words = [key for key in groups if isinstance(key, str)]
    if 0 < len(words) < len(groups):
        number = next(forms[0] for key, forms in groups.items() if isinstance(key, int))
        notes.append(
            f"{len(groups) - len(words)} {kind}s are numbers and {len(words)} are words, such as "
            f"{number!r} and {words[0]!r}; these are different {kind}s"
        )
    alike: dict[str, list[str]] = {}
    for word in words:
        alike.setdefault("".join(word.casefold().split()), []).append(word)
    same = [found for found in alike.values() if len(found) > 1]
    if same:
        words_alike = " and ".join(map(repr, same[0]))
        more = f"; so are {len(same) - 1} more" if len(same) > 1 else ""
        notes.append(
            f"{words_alike} are different {kind}s, though only capitals or spaces differ{more}"
        )
    return notes


def notes_on_distractors(learned_or_asked: Iterable[Path]) -> list[str]:
    """Say that images for training or of the query have the names of distractors, if some have."""
    found = next((path for path in learned_or_asked if _DISTRACTOR.match(path.name)), None)
    if found is None:
        return []
    return [
        f"{found.name} is to be trained on or searched for, but 0000 are distractors of many "
        "people in Market-1501 and MARS; remove them, or give the person another number"
    ]

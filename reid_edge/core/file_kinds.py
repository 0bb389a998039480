"""What a file is that is given where another kind is expected: a name for a message."""

from __future__ import annotations

import zipfile
from pathlib import Path

_HEAD = 64
# Formats by what they begin with: (offset, bytes, name).
_SIGNATURES = (
    (0, b"\x89PNG", "an image (PNG)"),
    (0, b"\xff\xd8\xff", "an image (JPEG)"),
    (8, b"WEBP", "an image (WebP)"),
    (8, b"AVI ", "a video (AVI)"),
    (0, b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (0, b"\x00\x00\x01\xba", "a video (MPEG)"),
    (0, b"\x1f\x8b", "a compressed archive (gzip)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a compressed archive (7z)"),
    (0, b"Rar!", "a compressed archive (RAR)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
)
_STILL_IMAGES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


def kind_of_file(path: Path) -> str | None:
    """Return what a file is, such as "a TorchScript file" or "a video (MP4)"; None: not known.

    It looks at the content, at the suffix only where a format has no mark of its own.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if head[4:8] == b"ftyp":
        return "an image (AVIF or HEIF)" if head[8:12] in _STILL_IMAGES else "a video (MP4)"
    for offset, mark, name in _SIGNATURES:
        if head[offset:].startswith(mark):
            return name
    if head[:2] == b"PK":
        return _kind_of_zip(path)
    if path.suffix == ".onnx":
        return "an ONNX file"
    if path.suffix == ".safetensors":
        return "a safetensors file"
    return None


def _kind_of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return "a TorchScript file"
    return None if "data.pkl" in inner else "a ZIP archive"

import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from reid_edge.core.errors import CheckpointError
from reid_edge.core.file_kinds import kind_of_file
from reid_edge.models.checkpoint import read_torch_file


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x00\x00\x00\x20ftypisom", "a video (MP4)"),
        (b"\x00\x00\x00\x20ftypavif", "an image (AVIF or HEIF)"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "a video (AVI)"),
        (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
        (b"\x1f\x8b\x08", "a compressed archive (gzip)"),
        (b"anything else", None),
        (b"", None),
        (b"PK\x03\x04", None),
    ],
)
def test_kinds_by_their_first_bytes(tmp_path: Path, head: bytes, kind: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(head)
    assert kind_of_file(path) == kind


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WebP")])
def test_real_images(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (4, 4)).save(path)
    assert kind_of_file(path) == f"an image ({kind})"


def test_kinds_of_zip_archives(tmp_path: Path) -> None:
    script, weights, archive = (tmp_path / name for name in ("script.pt", "weights.pt", "a.zip"))
    torch.jit.script(nn.ReLU()).save(str(script))
    torch.save({"a": torch.zeros(1)}, weights)
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr("a.jpg", b"")
    assert kind_of_file(script) == "a TorchScript file"
    assert kind_of_file(weights) is None
    assert kind_of_file(archive) == "a ZIP archive"
    assert kind_of_file(tmp_path / "none") is None
    with pytest.raises(CheckpointError, match=r"script.pt: is a TorchScript file, expected a che"):
        read_torch_file(script)

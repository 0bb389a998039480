"""Weights that others publish, by name: where they are, and how they get into the cache."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import CheckpointError
from reid_edge.core.io import written_whole
from reid_edge.core.registry import Registry

FOLDER_VARIABLE = "REID_HOME"
TIMEOUT = 30  # seconds without an answer
# Where an error page would begin with "<": a ZIP archive, or what PyTorch saved before these.
HEADS = (b"PK\x03\x04", b"\x80")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that others publish.

    Attributes:
        name: in settings.
        file: its name in the cache.
        url: of the file.
        page: that says what it is.
        sha256: first digits of its SHA-256, as far as its publisher says them; empty: unknown.
    """

    name: str
    file: str
    url: str
    page: str
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Return where the file is in the cache, or would be."""
        return weights_folder() / self.file


def _torchreids(name: str, drive_id: str) -> PublishedWeights:
    return PublishedWeights(
        f"{name}_imagenet",
        f"{name}_imagenet.pth",
        f"https://drive.google.com/uc?export=download&id={drive_id}",
        "https://kaiyangzhou.github.io/deep-person-reid/MODEL_ZOO",
    )


def _torchvisions(name: str, digits: str) -> PublishedWeights:
    file = f"{name}-{digits}.pth"
    page = f"https://pytorch.org/vision/stable/models/generated/torchvision.models.{name}.html"
    url = f"https://download.pytorch.org/models/{file}"
    return PublishedWeights(f"{name}_imagenet", file, url, page, digits)


_known = [
    _torchreids("osnet_x1_0", "1LaG1EJpHrxdAxKnSCJ_i0u-nbxSAeiFY"),
    _torchreids("osnet_x0_75", "1uwA9fElHOk3ZogwbeY5GkLI6QPTX70Hq"),
    _torchreids("osnet_x0_5", "16DGLbZukvVYgINws8u8deSaOqjybZ83i"),
    _torchreids("osnet_x0_25", "1rb8UN5ZzPKRc_xvtHlyDh-cSz88YX9hs"),
    _torchreids("osnet_ibn_x1_0", "1sr90V6irlYYDd4_4ISU2iruoRG8J__6l"),
    _torchreids("osnet_ain_x1_0", "1-CaioD9NaqbHK_kzSMW8VE4_3KcsRjEo"),
    _torchreids("osnet_ain_x0_75", "1apy0hpsMypqstfencdH-jKIUEFOW4xoM"),
    _torchreids("osnet_ain_x0_5", "1KusKvEYyKGDTUBVRxRiz55G31wkihB6l"),
    _torchreids("osnet_ain_x0_25", "1SxQt2AvmEcgWNhaRb2xC4rP6ZwVDP0Wt"),
    _torchvisions("resnet18", "f37072fd"),
    _torchvisions("resnet50", "0676ba61"),
]
PUBLISHED: Registry[PublishedWeights] = Registry(
    "published weights",
    "reid_edge.weights",
    {weights.name: weights for weights in _known},
    error=CheckpointError,
)


def weights_folder() -> Path:
    """Return the folder of published weights: ``REID_HOME``, or one in the user's cache."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "reid-edge"


def fetch(weights: PublishedWeights) -> Path:
    """Return the file of published weights; it is downloaded if it is not there.

    Raises:
        CheckpointError: it cannot be downloaded, or its hash is not the publisher's.
    """
    path = weights.path
    if path.is_file():
        _check(weights, path.read_bytes(), f"{path}: is not what {weights.page} publishes")
        return path
    import urllib.request  # with ssl, which settings do not need

    by_hand = f"download {weights.url} (see {weights.page}) and save it as {path}"
    logger.info("%s: downloading %s to %s", weights.name, weights.url, path)
    try:
        with urllib.request.urlopen(weights.url, timeout=TIMEOUT) as answer:
            content = answer.read()
    except OSError as error:  # urllib's errors are among them
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{weights.name}: cannot be downloaded ({reason}); {by_hand}"
        ) from error
    _check(weights, content, f"{weights.name}: {weights.url} gives something else; {by_hand}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path, CheckpointError) as file:
        file.write(content)
    return path


def _check(weights: PublishedWeights, content: bytes, message: str) -> None:
    if not content.startswith(HEADS):
        raise CheckpointError(f"{message} (it is no file of PyTorch)")
    found = hashlib.sha256(content).hexdigest()
    if not found.startswith(weights.sha256):
        raise CheckpointError(
            f"{message} (SHA-256 {found[: len(weights.sha256)]}, expected {weights.sha256})"
        )

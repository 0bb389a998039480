"""Small copies of images inside the page, as rules of its style sheet."""

from __future__ import annotations

import base64
import io
import logging
from pathlib import Path

from markupsafe import Markup
from PIL import Image

HEIGHT = 96
QUALITY = 70
MOST_BYTES = 2_000_000  # of all of them as text, of the 4 MB that a page may have

logger = logging.getLogger(__name__)


class Thumbnails:
    """Small copies of images, each once, however often it is shown.

    Args:
        root: folder of the data set.
        ratio: width of an image divided by its height.
    """

    def __init__(self, root: Path, ratio: float) -> None:
        self.rules: list[Markup] = []
        self._root = root
        self._size = (max(round(HEIGHT * ratio), 8), HEIGHT)
        self._known: dict[str, str] = {}
        self._bytes = 0

    def name_of(self, file: str) -> str:
        """Return the class of an image, or nothing if it cannot be read or there is no room."""
        if file not in self._known:
            content = self._encode(self._root / file)
            self._bytes += len(content)
            name = f"p{len(self.rules)}" if content and self._bytes < MOST_BYTES else ""
            if name:
                rule = Markup(".{}{{background-image:url(data:image/jpeg;base64,{})}}\n")
                self.rules.append(rule.format(name, content))
            self._known[file] = name
        return self._known[file]

    def _encode(self, path: Path) -> str:
        try:
            with Image.open(path) as image:
                small = image.convert("RGB").resize(self._size, Image.Resampling.BILINEAR)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            logger.debug("%s: not shown (%s)", path, error)
            return ""
        content = io.BytesIO()
        small.save(content, "JPEG", quality=QUALITY)
        return base64.b64encode(content.getvalue()).decode()

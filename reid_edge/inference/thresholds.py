"""The threshold that is stored with a model: from which similarity on two images are one person.

It is stored beside the model file as ``<file>.threshold.json``. It is valid for that file alone,
with the architecture, input size, colours and flip averaging that it was measured with.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reid_edge.core.errors import DataError, ModelError
from reid_edge.core.io import write_json
from reid_edge.inference.embedder import EmbeddingSpace, ImageEmbedder
from reid_edge.metrics.results import VerificationResult

EQUAL_ERROR = "eer"
SUFFIX = ".threshold.json"
# A digit that flipped would be another threshold without a word.
CONTENT_HASH = "content_sha256"
HOW_TO_MAKE_ONE = "measure one with: reid-edge evaluate ... --store-threshold 1e-3"


@dataclass(frozen=True)
class StoredThreshold:
    """The lowest cosine similarity at which two images count as one person.

    Attributes:
        threshold: a cosine similarity, between -1 and 1.
        target: the bound on the false accept rate, or "eer" for the equal error rate.
        measured_on: which images it was measured on.
        genuine_pairs: number of pairs of one person that were measured.
        impostor_pairs: number of pairs of two persons that were measured.
    """

    threshold: float
    target: float | str
    measured_on: str
    genuine_pairs: int
    impostor_pairs: int

    def __str__(self) -> str:
        """Return the target and what it was measured on."""
        what = "equal error rate" if self.target == EQUAL_ERROR else f"FAR {self.target:g}"
        return f"{what} on {self.measured_on}"


def parse_target(text: str) -> float | str:
    """Read a target: "eer", or a false accept rate such as "1e-3".

    Raises:
        DataError: it is neither.
    """
    if text.lower() == EQUAL_ERROR:
        return EQUAL_ERROR
    try:
        target = float(text)
    except ValueError:
        target = math.nan
    if not 0 < target < 1:
        raise DataError(f"threshold target {text!r}: expected a false accept rate or 'eer'")
    return target


def choose_threshold(
    result: VerificationResult, target: float | str, measured_on: str
) -> StoredThreshold:
    """Return the threshold for a target.

    Args:
        result: holds an operating point for the target.
        target: a false accept rate, or "eer".
        measured_on: which images were measured.

    Raises:
        DataError: there are too few pairs for this target.
    """
    pairs = result.genuine_pairs, result.impostor_pairs
    if target == EQUAL_ERROR:
        return StoredThreshold(result.equal_error_threshold, target, measured_on, *pairs)
    point = next(point for point in result.operating_points if point.target == target)
    if point.threshold is None:
        raise DataError(f"no threshold for a false accept rate of {target:g}: {point.reason}")
    return StoredThreshold(point.threshold, target, measured_on, *pairs)


def threshold_path(model_file: Path) -> Path:
    """Return the path of the threshold of a model file."""
    return model_file.with_name(model_file.name + SUFFIX)


def no_threshold(model_file: Path) -> str:
    """Return the message that no threshold is stored with a model file, and how to get one."""
    return f"{model_file}: no threshold is stored with it; {HOW_TO_MAKE_ONE}; or give --threshold"


def store_threshold(embedder: ImageEmbedder, threshold: StoredThreshold) -> Path:
    """Write a threshold beside its model file, the whole file or none of it; return its path.

    Raises:
        DataError: it cannot be written.
    """
    path = threshold_path(embedder.path)
    content = {**asdict(threshold), "model": embedder.space.to_dict()}
    try:
        write_json(path, {**content, CONTENT_HASH: _hash(content)})
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def read_threshold(embedder: ImageEmbedder) -> StoredThreshold:
    """Read the threshold that is stored with a model.

    Raises:
        ModelError: there is none, it is damaged or of an earlier version of this program, or it was
            measured with another model file or other settings (see `EmbeddingSpace`).
    """
    path = threshold_path(embedder.path)
    if not path.is_file():
        raise ModelError(no_threshold(embedder.path))
    try:
        content = _read_content(path)
        space = EmbeddingSpace.from_dict(content.pop("model"))
        stored = StoredThreshold(**content)
        if not -1 <= stored.threshold <= 1:
            raise ValueError(f"a cosine similarity of {stored.threshold}")
        stored = replace(stored, target=parse_target(str(stored.target)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged, or of an earlier version; {HOW_TO_MAKE_ONE}") from error
    difference = embedder.space.difference(space)
    if difference is not None:
        raise ModelError(f"{path}: was measured with {difference}; {HOW_TO_MAKE_ONE}")
    return stored


def is_damaged(path: Path) -> bool:
    """Return whether a stored threshold does not hold what was written."""
    try:
        return set(_read_content(path)) != {*StoredThreshold.__annotations__, "model"}
    except (OSError, ValueError, TypeError, RecursionError):
        return True


def _read_content(path: Path) -> dict[str, Any]:
    content = dict(json.loads(path.read_bytes()))
    # Files of earlier versions have none.
    if content.pop(CONTENT_HASH, None) not in (None, _hash(content)):
        raise ValueError("another content")
    return content


def _hash(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

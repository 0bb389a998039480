"""Configuration files of trackers for an exported ONNX file.

What the trackers do with a crop and with a threshold is not the same:

| tracker | a crop becomes | appearance threshold for a cosine similarity c |
|---|---|---|
| BoxMOT 25, BoT-SORT | RGB, ImageNet's mean and std, the graph's size | largest distance: 1 - c |
| Ultralytics 8.4, BoT-SORT | RGB in [0, 1], the graph's size | smallest similarity: (1 + c) / 2 |
| DeepStream, ``nvtracker`` | (x - offset) * factor, one factor for all colours | c |

So Ultralytics and DeepStream get a file of their own, which takes RGB in [0, 1] and normalises it.

Sources: ``boxmot/reid/config.py`` and ``boxmot/trackers/box/botsort/tracker.py``;
``ultralytics/trackers/utils/reid.py`` and ``bot_sort.py``; the page Gst-nvtracker of NVIDIA's
DeepStream development guide.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import ModelError, ReidError
from reid_edge.core.io import hash_file, write_bytes
from reid_edge.core.model_file import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.inference.embedder import EmbeddingSpace, load_embedder
from reid_edge.inference.frames import Embedder
from reid_edge.inference.thresholds import read_threshold, threshold_path
from reid_edge.tracking.normalising_file import write_normalising

NORMALISING = "normalising.onnx"
BOXMOT_REID, BOXMOT_BOTSORT = "boxmot-reid.yaml", "boxmot-botsort.yaml"
ULTRALYTICS, DEEPSTREAM = "ultralytics-botsort.yaml", "deepstream-tracker.yml"
FILES = (NORMALISING, BOXMOT_REID, BOXMOT_BOTSORT, ULTRALYTICS, DEEPSTREAM)
# Folder beside an export that they are in.
TRACKERS = "trackers"
NO_THRESHOLD = "The tracker's default: no threshold of this model has been measured"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Subject:
    """What is written about: a model, its embeddings' size, and its threshold."""

    model: Path
    folder: Path
    space: EmbeddingSpace
    dimensions: int
    threshold: float | None
    source: str

    def comment(self) -> str:
        if self.threshold is None:
            return NO_THRESHOLD
        # One line, whatever is noted as the source: the rest of it would be read as keys.
        return " ".join(f"Cosine similarity {self.threshold:.4f}: {self.source}".split())


def write_tracker_files(
    model: Path, folder: Path, threshold: float | None = None, source: str = ""
) -> list[Path]:
    """Write configuration files of BoxMOT, Ultralytics and DeepStream for an ONNX file.

    They name the model by its path from the folder, so that both can be moved together.

    Args:
        model: an ONNX file that takes float images (N, 3, H, W).
        folder: where to; it is made, and files of these names in it are replaced.
        threshold: lowest cosine similarity of one person; by default the one that is stored beside
            the model, or in it, if there is one.
        source: where this threshold is from, for a comment.

    Returns:
        The files.

    Raises:
        ReidError: the file cannot be loaded or is one of those that are replaced, the package onnx
            is missing, or the threshold is no cosine similarity.
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise ModelError(f"threshold {threshold:g}: a cosine similarity is between -1 and 1")
    if model.resolve() in [(folder / name).resolve() for name in FILES]:
        raise ModelError(f"{model}: would be replaced by a file of this name; give another folder")
    _remove(folder)
    loaded = load_embedder(model)
    embedder = Embedder(loaded)
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / NORMALISING
    contents = write_normalising(embedder, made)
    if threshold is not None:
        source = source or "given"
    elif threshold_path(loaded.path).is_file():
        stored = read_threshold(loaded)
        threshold, source = stored.threshold, str(stored)
    elif contents.threshold is not None:
        threshold, source = contents.threshold, "equal error rate, in the file's metadata"
    subject = _Subject(loaded.path, folder, loaded.space, embedder.dimensions, threshold, source)
    texts = {ULTRALYTICS: _ultralytics(subject)}
    if contents.quantized:
        _log.info("%s: no file for DeepStream: TensorRT takes no int8 with zero points", model)
    else:
        texts[DEEPSTREAM] = _deepstream(subject, contents.batch)
    space = loaded.space
    if (space.mean, space.std, space.colour_order) == (IMAGENET_MEAN, IMAGENET_STD, "RGB"):
        texts |= {BOXMOT_REID: _boxmot_reid(subject), BOXMOT_BOTSORT: _boxmot_botsort(subject)}
    else:
        _log.info("%s: no files for BoxMOT, which normalises as ImageNet does alone", model)
    for name, text in texts.items():
        write_bytes(folder / name, text.encode())
    return [made, *(folder / name for name in texts)]


def write_beside_export(folder: Path, names: Sequence[str], rejected: Sequence[str] = ()) -> None:
    """Write ``trackers/<file>/`` for the ONNX files of an export.

    A file that trackers cannot use is named in the log, and does not stop the others.

    Args:
        folder: of the export.
        names: of its ONNX files.
        rejected: names of ONNX files that cannot be used; what an earlier export has written for
            them is removed.
    """
    for name in rejected:
        _remove(folder / TRACKERS / Path(name).stem)
    for name in names:
        try:
            write_tracker_files(folder / name, folder / TRACKERS / Path(name).stem)
        except ReidError as error:
            _log.warning("no files for trackers: %s", error)


def _remove(folder: Path) -> None:
    """Remove what was written before: not every model has every file."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def _boxmot_reid(subject: _Subject) -> str:
    height, width = subject.space.input_size
    path = os.path.relpath(subject.model, subject.folder)
    return f"""\
# BoxMOT: boxmot track --tracker botsort --reid {BOXMOT_REID} --tracker-config {BOXMOT_BOTSORT}
backend: onnx
artifact:
  path: {json.dumps(Path(path).as_posix(), ensure_ascii=False)}  # from this file
  sha256: {hash_file(subject.model)}
device: cpu
precision: fp32
preprocessing: resize
options:
  image_size: [{height}, {width}]
"""


def _boxmot_botsort(subject: _Subject) -> str:
    lines = ["tracker: botsort", "use_embeddings: true"]
    if subject.threshold is not None:
        lines.append(f"appearance_thresh: {1 - subject.threshold:.4f}  # largest cosine distance")
    return f"# {subject.comment()}\n" + "\n".join(lines) + "\n"


def _ultralytics(subject: _Subject) -> str:
    similarity = 0.8 if subject.threshold is None else (1 + subject.threshold) / 2
    return f"""\
# Ultralytics: yolo track model=yolo11n.pt source=video.mp4 tracker={ULTRALYTICS}
# Run it in this folder, or write the whole path of the model below.
tracker_type: botsort
track_high_thresh: 0.25
track_low_thresh: 0.1
new_track_thresh: 0.25
track_buffer: 30
match_thresh: 0.8
fuse_score: True
gmc_method: sparseOptFlow
proximity_thresh: 0.5
# {subject.comment()}
appearance_thresh: {similarity:.4f}  # (1 + cosine similarity) / 2
with_reid: True
model: {NORMALISING}
"""


def _deepstream(subject: _Subject, fixed_batch: int | None) -> str:
    height, width = subject.space.input_size
    similarity = 0.8 if subject.threshold is None else max(0.0, subject.threshold)
    batch = fixed_batch or 100
    return f"""\
# DeepStream nvtracker: put these keys into a copy of config_tracker_NvDCF_accuracy.yml, which
# ll-config-file names, and remove tltEncodedModel and tltModelKey there.
# DeepStream before 9 needs the whole path of both files.
ReID:
  reidType: 2  # re-association of tracks
  batchSize: {batch}
  workspaceSize: 1000
  reidFeatureSize: {subject.dimensions}
  reidHistorySize: 100
  inferDims: [3, {height}, {width}]
  networkMode: 1  # FP16
  inputOrder: 0  # NCHW
  colorFormat: 0  # RGB
  offsets: [0.0, 0.0, 0.0]  # the file normalises; it takes [0, 1]
  netScaleFactor: {1 / 255:.10f}
  keepAspc: 0  # the model was trained on crops that were stretched
  addFeatureNormalization: 1
  outputReidTensor: 0
  onnxFile: "{NORMALISING}"
  modelEngineFile: "{NORMALISING}_b{batch}_gpu0_fp16.engine"
TrajectoryManagement:
  enableReAssoc: 1
  reidExtractionInterval: 8  # frames between two embeddings of a target
  matchingScoreWeight4ReidSimilarity: 0.5
  matchingScoreWeight4TrackletSimilarity: 0.5
  # {subject.comment()}
  minMatchingScore4ReidSimilarity: {similarity:.4f}
"""

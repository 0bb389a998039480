"""Track the detections of a MOTChallenge sequence with Ultralytics' BoT-SORT and a file of ours.

The folder is one of those that ``reid-edge evaluate --mot ... --output out`` writes. With a
detector of Ultralytics: ``yolo track model=yolo11n.pt tracker=ultralytics-botsort.yaml``.

``python examples/track_ultralytics.py data/synthetic-mot/SYN-01 out/trackers/int8``
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from ultralytics.engine.results import Boxes
from ultralytics.trackers.bot_sort import BOTSORT
from ultralytics.utils import YAML, IterableSimpleNamespace

sequence, folder = Path(sys.argv[1]), Path(sys.argv[2])
settings = YAML.load(folder / "ultralytics-botsort.yaml")
settings["model"] = str(folder / settings["model"])
tracker = BOTSORT(IterableSimpleNamespace(**settings, device="cpu"))

lines = np.loadtxt(sequence / "det" / "det.txt", delimiter=",", ndmin=2)
numbers: set[int] = set()
for path in sorted((sequence / "img1").glob("*.jpg")):
    frame = cv2.imread(str(path))
    found = lines[lines[:, 0] == int(path.stem)]
    corner = found[:, 2:4] - 1  # MOTChallenge counts pixels from 1
    boxes = np.concatenate([corner, corner + found[:, 4:6]], axis=1)
    detections = np.column_stack([boxes, found[:, 6], np.zeros(len(found))])  # class 0: a person
    tracks = tracker.update(Boxes(detections.astype(np.float32), frame.shape[:2]), frame)
    numbers |= {int(track[4]) for track in tracks}
print(f"{sequence.name}: {len(numbers)} tracks")

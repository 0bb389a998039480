"""Track the detections of a MOTChallenge sequence with BoxMOT's BoT-SORT and a file of ours.

The folder is one of those that ``reid-edge evaluate --mot ... --output out`` writes:

``python examples/track_boxmot.py data/synthetic-mot/SYN-01 out/trackers/int8``
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from boxmot.reid.config import resolve_reid_spec
from boxmot.trackers.box.botsort.tracker import BotSort
from boxmot.trackers.config import load_tracker_config

sequence, folder = Path(sys.argv[1]), Path(sys.argv[2])
reid, _ = resolve_reid_spec(folder / "boxmot-reid.yaml", allow_download=False)
still = {"use_cmc": False}  # the cameras do not move
options = load_tracker_config("botsort", folder / "boxmot-botsort.yaml", still)
tracker = BotSort(
    reid_weights=reid.artifact, device=reid.device, reid_preprocess=reid.preprocessing, **options
)

lines = np.loadtxt(sequence / "det" / "det.txt", delimiter=",", ndmin=2)
numbers: set[int] = set()
for path in sorted((sequence / "img1").glob("*.jpg")):
    found = lines[lines[:, 0] == int(path.stem)]
    corner = found[:, 2:4] - 1  # MOTChallenge counts pixels from 1
    boxes = np.concatenate([corner, corner + found[:, 4:6]], axis=1)
    detections = np.column_stack([boxes, found[:, 6], np.zeros(len(found))])  # class 0: a person
    tracks = tracker.update(detections.astype(np.float32), cv2.imread(str(path)))
    numbers |= {int(track[4]) for track in tracks}
print(f"{sequence.name}: {len(numbers)} tracks")

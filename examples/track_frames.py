"""Embed the persons in a folder of frames, with boxes from a MOTChallenge file, and compare them.

``python examples/track_frames.py data/synthetic-mot/SYN-01 runs/osnet_x0_5/export/int8.onnx``
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import reid_edge

sequence, weights = Path(sys.argv[1]), Path(sys.argv[2])
try:
    embedder = reid_edge.Embedder(weights, threads=1)
except reid_edge.ReidError as error:  # a file that cannot be used; the message names it
    raise SystemExit(f"error: {error}") from error

lines = np.loadtxt(sequence / "det" / "det.txt", delimiter=",", ndmin=2)
before = np.zeros((0, embedder.dimensions), dtype=np.float32)
for path in sorted((sequence / "img1").glob("*.jpg"))[:20]:
    # With OpenCV: frame = cv2.imread(str(path))
    frame = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
    left_top_width_height = lines[lines[:, 0] == int(path.stem), 2:6]
    corner = left_top_width_height[:, :2] - 1  # MOTChallenge counts pixels from 1
    boxes = np.concatenate([corner, corner + left_top_width_height[:, 2:]], axis=1)
    features = embedder(frame, boxes)  # (N, D), each of length 1; N may be 0
    alike = features @ before.T  # cosine similarities with the persons of the frame before
    best = ", ".join(f"{row.max():.2f}" for row in alike) if alike.size else "-"
    print(f"{path.name}: {len(boxes)} persons, most similar to one before: {best}")
    before = features

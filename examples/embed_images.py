"""Embed the images of a folder and show for each the three most similar ones.

Install reid-edge first (``pip install .``), or set ``PYTHONPATH=.`` in the root of a checkout.
"""

from pathlib import Path

import numpy as np

import reid_edge

weights = Path("runs/osnet_x0_5/finetune/checkpoint.pt")
images = sorted(Path("images").glob("*.jpg"))
try:
    embedder = reid_edge.load_embedder(weights, device="auto")
    embeddings = reid_edge.embed_files(embedder, images, batch_size=64)  # NumPy (N, D), in order
except reid_edge.ReidError as error:  # a file that cannot be read or used; the message names it
    raise SystemExit(f"error: {error}") from error

unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
similarities = unit @ unit.T  # cosines (N, N)
for image, row in zip(images, similarities, strict=True):
    best = [images[place].name for place in row.argsort()[::-1][1:4]]
    print(f"{image.name}: most like {', '.join(best)}")

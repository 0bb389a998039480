"""Embed the images of a folder and show for each the three most similar ones."""

from pathlib import Path

from reid_edge.core.errors import ReidError
from reid_edge.data.paths import list_images
from reid_edge.inference.embedder import embed_files, load_embedder, unit_vectors

try:
    embedder = load_embedder(Path("runs/osnet_x0_5/finetune/checkpoint.pt"), device="auto")
    images = list_images(Path("images"))
    embeddings = embed_files(embedder, images, batch_size=64)  # NumPy (N, D), in order
except ReidError as error:  # a file that cannot be read or used; the message names it
    raise SystemExit(f"error: {error}") from error

unit = unit_vectors(embeddings)
similarities = unit @ unit.T  # cosines (N, N)
for image, row in zip(images, similarities, strict=True):
    best = [images[place].name for place in row.argsort()[::-1][1:4]]
    print(f"{image.name}: most like {', '.join(best)}")

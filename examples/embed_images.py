"""Embed the images of a folder and show for each the three most similar ones."""

from pathlib import Path

from reid_edge.core.errors import ReidError
from reid_edge.data.paths import list_images
from reid_edge.inference.embedder import embed_files
from reid_edge.inference.model_files import load_embedder
from reid_edge.metrics.distances import unit_length

try:
    embedder = load_embedder(Path("runs/osnet_x0_5/finetune/checkpoint.pt"), device="auto")
    images = list_images(Path("images"))
    embeddings = embed_files(embedder, images, batch_size=64)  # (N, D), in order, on the CPU
except ReidError as error:  # a file that cannot be read or used; the message names it
    raise SystemExit(f"error: {error}") from error

unit = unit_length(embeddings)
similarities = unit @ unit.T  # cosines (N, N)
for image, row in zip(images, similarities, strict=True):
    best = [images[place].name for place in row.argsort(descending=True)[1:4]]
    print(f"{image.name}: most like {', '.join(best)}")

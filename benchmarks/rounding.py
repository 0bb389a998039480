"""How far small errors move the embeddings of a model: why files of few bits differ from it.

    python -m benchmarks.rounding --images cuhk03/bounding_box_test osnet_x0_25_msmt17.pth

Nothing is exported. Each column changes one thing of the float model in PyTorch, on 32 images:
every pixel is one level of 255 brighter or darker, weights are rounded to int8 (a scale for each
output channel), the outputs of ReLUs to 255 or 127 steps of their largest value, as unsigned and as
signed int8 hold them, and everything is computed in bfloat16. The mean and the lowest cosine to the
unchanged model are printed. Of a file that is no checkpoint, only the pixels are changed.
"""

from __future__ import annotations

import argparse
import copy
import sys
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.command import make_parser
from pipeline.command import run_guarded
from pipeline.export_images import find_images
from reid_edge.core.backends import load_model_file
from reid_edge.inference.embedder import load_batches, load_embedder

IMAGES = 32
SIZE = (256, 128)
CHANGES = ("pixels", "int8 weights", "ReLUs, 255", "ReLUs, 127", "bfloat16")


@torch.inference_mode()
def main(options: argparse.Namespace) -> None:
    """Change each model, print the table."""
    table = Table("model", *CHANGES)
    for path in options.models:
        embedder = load_embedder(path, input_size=SIZE)
        (loaded,) = load_batches(embedder.space, find_images(options.images)[:IMAGES], IMAGES)
        images = torch.from_numpy(loaded)
        up_or_down = 2 * torch.randint(0, 2, images.shape, generator=torch.Generator()) - 1
        level = 1 / (255 * torch.tensor(embedder.space.std).reshape(3, 1, 1))
        exact, moved = (
            torch.from_numpy(embedder.embed(each.numpy()))
            for each in (images, images + level * up_or_down)
        )
        found = [moved]
        model = load_model_file(path).module
        if model is not None:
            found += [
                with_int8_weights(model)(images),
                with_steps_behind_relus(model, 255)(images),
                with_steps_behind_relus(model, 127)(images),
                copy.deepcopy(model).bfloat16()(images.bfloat16()).float(),
            ]
        cosines = [F.cosine_similarity(each, exact) for each in found]
        cells = [f"{each.mean():.4f} {each.min():.4f}" for each in cosines]
        table.add_row(path.name, *cells, *["-"] * (len(CHANGES) - len(cells)))
    Console(width=120).print(table)


def with_int8_weights(model: nn.Module) -> nn.Module:
    """Return a copy with the weights of its layers rounded to 127 steps of each channel."""
    changed = copy.deepcopy(model)
    for layer in changed.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            largest = layer.weight.abs().flatten(1).amax(1)
            layer.weight.copy_(
                in_steps(layer.weight, largest.reshape(-1, *[1] * (layer.weight.dim() - 1)), 127)
            )
    return changed


def with_steps_behind_relus(model: nn.Module, levels: int) -> nn.Module:
    """Return a copy with the outputs of its ReLUs rounded to steps of the largest one."""
    changed = copy.deepcopy(model)
    for layer in changed.modules():
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(
                lambda _, __, output: in_steps(output, output.max(), levels)
            )
    return changed


def in_steps(values: Tensor, largest: Tensor, levels: int) -> Tensor:
    """Return values rounded to so many steps from zero to the largest one."""
    step = largest.clamp_min(1e-12) / levels
    return torch.round(values / step) * step


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="checkpoints, or files of any kind")
    parser.add_argument("--images", type=Path, required=True, help="images of persons")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

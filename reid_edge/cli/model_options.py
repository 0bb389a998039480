"""The options that every command with a model has."""

from __future__ import annotations

import argparse
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from reid_edge.core.devices import DEVICES
from reid_edge.core.errors import ModelError

if TYPE_CHECKING:
    from reid_edge.inference.embedder import ImageEmbedder

WEIGHTS_VARIABLE = "REID_WEIGHTS"


def add_model_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the options that say which model to use, and how.

    Args:
        parser: of the command.
        several: whether more than one model can be given; ``--weights`` is then a list.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--weights", type=Path, metavar="FILE", nargs="+" if several else None,
        help="checkpoint, TorchScript, ONNX or ExecuTorch file, or the .xml of an OpenVINO file "
        f"(default: the environment variable {WEIGHTS_VARIABLE})",
    )  # fmt: skip
    add_reading_options(group)
    group.add_argument(
        "--flip",
        action="store_true",
        help="average the embeddings of each image and its mirror image",
    )
    group.add_argument(
        "--device", choices=DEVICES, default="auto",
        help="device of a checkpoint (default: auto, the GPU if there is one); exported files run "
        "on the CPU",
    )  # fmt: skip


def add_reading_options(group: argparse._ActionsContainer) -> None:
    """Add the options that say how a model file is read.

    Args:
        group: a parser, or a group of one.
    """
    group.add_argument(
        "--architecture", metavar="NAME",
        help="architecture of another program's checkpoint (default: as in the file's name)",
    )  # fmt: skip
    group.add_argument(
        "--input-size", metavar="HxW",
        help="input size in pixels (default: the file's own, or 256x128)",
    )  # fmt: skip
    group.add_argument(
        "--weights-key", metavar="KEY",
        help="which weights to take of another program's checkpoint that holds several, such as "
        "state_dict_ema (default: the usual one, which is named where there are others)",
    )  # fmt: skip
    for name in ("mean", "std"):
        group.add_argument(
            f"--{name}", metavar="R,G,B",
            help=f"{name} of each colour in [0, 1] (default: the file's own, or ImageNet's)",
        )  # fmt: skip


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that go through many images."""
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N",
        help="images in a batch (default: 32)",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N",
        help="threads that decode images ahead of the model (default: 0)",
    )  # fmt: skip


def add_threshold_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that overrides the stored threshold."""
    parser.add_argument(
        "--threshold", type=float, metavar="X",
        help="lowest cosine similarity of one person (default: the one stored with the model)",
    )  # fmt: skip


def load_chosen_model(options: argparse.Namespace) -> ImageEmbedder:
    """Load the model that the options or the environment name.

    Args:
        options: of `add_model_options`.

    Raises:
        ReidError: no model is named, there are several, or it cannot be loaded.
    """
    first, *others = load_chosen_models(options)
    if others:
        raise ModelError(f"--weights names {1 + len(others)} models; expected one")
    return first


def load_chosen_models(options: argparse.Namespace) -> list[ImageEmbedder]:
    """Load all models that the options or the environment name, at least one.

    Raises:
        ReidError: no model is named, or one cannot be loaded.
    """
    named = options.weights or os.environ.get(WEIGHTS_VARIABLE)
    if not named:
        raise ModelError(f"no model is named: give --weights FILE, or set {WEIGHTS_VARIABLE}")
    return [_load(Path(path), options) for path in (named if isinstance(named, list) else [named])]


def _load(path: Path, options: argparse.Namespace) -> ImageEmbedder:
    from reid_edge.inference.embedder import load_embedder

    return load_embedder(
        path,
        architecture=options.architecture,
        input_size=parse_input_size(options.input_size),
        flip_averaging=options.flip,
        device=options.device,
        mean=parse_colours("--mean", options.mean),
        std=parse_colours("--std", options.std),
        weights_key=options.weights_key,
    )


def load_model_of_index(options: argparse.Namespace, index: Path) -> ImageEmbedder:
    """Load the model that ``--weights`` names, or else the one that an index was made with.

    Args:
        options: of `add_model_options`. Where they name no model, architecture, input size,
            colours and flip averaging are the index's too, whatever the environment names.
        index: a gallery's folder.

    Raises:
        ReidError: there is no index, or the model cannot be loaded.
    """
    from reid_edge.inference.embedder import load_embedder
    from reid_edge.inference.gallery import model_of

    path, space = model_of(index)
    if options.weights is not None:
        return load_chosen_model(options)
    return load_embedder(
        path,
        architecture=options.architecture or space.architecture or None,
        input_size=parse_input_size(options.input_size) or space.input_size,
        flip_averaging=options.flip or space.flip_averaging,
        device=options.device,
        mean=parse_colours("--mean", options.mean) or space.mean,
        std=parse_colours("--std", options.std) or space.std,
        weights_key=options.weights_key or space.weights_key or None,
    )


def chosen_threshold(options: argparse.Namespace, embedder: ImageEmbedder) -> tuple[float, str]:
    """Return the threshold, the option's or the stored one, and where it is from.

    Raises:
        ModelError: the option is no cosine similarity, or nothing is stored that fits the model.
    """
    from reid_edge.inference.thresholds import read_threshold

    if options.threshold is None:
        stored = read_threshold(embedder)
        return stored.threshold, str(stored)
    if not -1 <= options.threshold <= 1:
        raise ModelError(
            f"--threshold {options.threshold:g}: a cosine similarity is between -1 and 1"
        )
    return float(options.threshold), "--threshold"


def chosen_threshold_if_any(
    options: argparse.Namespace, embedder: ImageEmbedder
) -> tuple[float, str] | None:
    """Return what :func:`chosen_threshold` returns, or None if there is no threshold to choose.

    Raises:
        ModelError: the option is no cosine similarity, or what is stored does not fit the model.
    """
    from reid_edge.inference.thresholds import threshold_path

    if options.threshold is None and not threshold_path(embedder.path).is_file():
        return None
    return chosen_threshold(options, embedder)


def parse_colours(option: str, text: str | None) -> tuple[float, float, float] | None:
    """Read ``0.5,0.5,0.5`` as numbers for red, green and blue.

    Raises:
        ModelError: it is something else.
    """
    if text is None:
        return None
    try:
        red, green, blue = (float(number) for number in text.split(","))
    except ValueError as error:
        raise ModelError(
            f"{option} {text!r}: expected three numbers, such as 0.485,0.456,0.406"
        ) from error
    if not all(math.isfinite(value) for value in (red, green, blue)):
        raise ModelError(f"{option} {text!r}: expected finite numbers")
    return red, green, blue


def parse_input_size(text: str | None) -> tuple[int, int] | None:
    """Read ``256x128`` as (height, width).

    Raises:
        ModelError: it is something else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise ModelError(f"input size {text!r}: expected rows and columns, such as 256x128")
    return int(match[1]), int(match[2])

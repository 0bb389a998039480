"""Write a network as a folder of C: a source, its header, weights, and what builds and tests it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.c_engine.arena import SLACK
from quantize.c_engine.engine_layers import ALIGNMENT, Layer, Plane, Program
from quantize.c_engine.lowering import GATE_RANGE, GATE_STEP, GATE_UNIT
from reid_edge.core.errors import QuantizeError
from reid_edge.core.io import written_whole
from reid_edge.core.model_file import ModelMetadata

# The parts of the source behind the tables, in order.
KERNEL_PARTS = (
    "portable.c",
    "x86_begin.c",
    "x86_256.c",
    "with_vnni.c",
    "x86_256.c",
    "avx512_vnni.c",
    "amx.c",
    "arm_begin.c",
    "neon.c",
    "with_i8mm.c",
    "neon.c",
    "kernel_sets.c",
)
PARTS = ("sha256.c", *KERNEL_PARTS, "layers.c", "images.c", "api.c")
SOURCE, HEADER, WEIGHTS = "model.c", "model.h", "model.weights"
TEST_IMAGES = 5
LOWEST_COSINE = 0.9
# What the folder of an engine has: what is written here, and what its Makefile builds.
_WRITTEN = (
    SOURCE, HEADER, WEIGHTS, "library.c", "metadata.h", "metadata.json", "Makefile", "test.c",
    "test.images", "test.expected",
)  # fmt: skip
_BUILT = ("model.o", "model.so", "model_test", "test.bits")
_AUTHOR, _BEGINNING = "Written by reid-edge", 1000


@dataclass(frozen=True)
class SampleData:
    """Images and what the QDQ file makes of them.

    Attributes:
        images: uint8 RGB (5, H, W, 3).
        embeddings: float32 (5, D) of the file in ONNX Runtime.
    """

    images: NDArray[np.uint8]
    embeddings: NDArray[np.float32]


def write_folder(program: Program, metadata: ModelMetadata, test: SampleData, folder: Path) -> None:
    """Write the folder; existing files are replaced.

    Args:
        program: the layers.
        metadata: of the model; colours, mean and std become part of the weights.
        test: what the test program compares.
        folder: it is made if it is not there.

    Raises:
        QuantizeError: a file cannot be written.
    """
    weights, constants = _with_colours(program, metadata)
    strings = metadata.to_strings()
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, str | bytes] = {
        SOURCE: source_text(program, weights, constants, strings),
        HEADER: _part("model.h").replace("@DEFINITIONS@", _definitions(program)),
        WEIGHTS: weights,
        "library.c": _part("library.c"),
        "metadata.h": f"#define REID_METADATA {_c_string(json.dumps(strings, sort_keys=True))}\n",
        "metadata.json": json.dumps(strings, indent=2, sort_keys=True) + "\n",
        "Makefile": _part("Makefile"),
        "test.c": _part("test.c").replace("LOWEST_COSINE", str(LOWEST_COSINE)),
        "test.images": np.ascontiguousarray(test.images).tobytes(),
        "test.expected": np.ascontiguousarray(test.embeddings, np.float32).tobytes(),
    }
    for name, content in contents.items():
        with written_whole(folder / name, QuantizeError) as file:
            file.write(content.encode() if isinstance(content, str) else content)


def is_engine_folder(folder: Path) -> bool:
    """Return whether a folder is one that ``write_folder`` wrote, with nothing else in it."""
    try:
        names = {entry.name for entry in folder.iterdir() if not entry.is_dir()}
        beginning = (folder / SOURCE).read_bytes()[:_BEGINNING]
        entries = sum(1 for _ in folder.iterdir())
    except OSError:
        return False
    own = names <= {*_WRITTEN, *_BUILT} and len(names) == entries
    return own and _AUTHOR.encode() in beginning and not folder.is_symlink()


def source_text(
    program: Program, weights: bytes, constants: Mapping[str, int], metadata: Mapping[str, str]
) -> str:
    """Return the C source of a network.

    Args:
        program: the layers.
        weights: the file that goes with it; its size and hash become part of the source.
        constants: further numbers of the source, by name.
        metadata: of the model, for the comment at the top.
    """
    architecture = metadata.get("architecture") or "a model"
    digest = hashlib.sha256(weights).digest()
    numbers = {
        "BORDER_TOP": program.border[0],
        "BORDER_LEFT": program.border[1],
        "SCRATCH": program.scratch,
        "WEIGHTS_SIZE": len(weights),
        "GATE_STEP": GATE_STEP,
        "GATE_RANGE": GATE_RANGE,
        "GATE_UNIT": GATE_UNIT,
        "MODEL_IS_BGR": int(metadata.get("colour_order") == "BGR"),
        **constants,
    }
    factor = float(np.float32(1 / program.image_scale))
    places = {plane: place for place, plane in enumerate(program.planes)}
    tables = "\n".join(
        [
            "/* The network. */",
            "enum {",
            *(f"    {name} = {value}," for name, value in numbers.items()),
            "};",
            f"#define UNIT_LENGTH {int(program.unit_length)}",
            f"#define IMAGE_FACTOR {factor.hex()}f",
            "static const uint8_t WEIGHTS_SHA256[32] = {"
            + ", ".join(f"0x{byte:02x}" for byte in digest)
            + "};",
            "static const plane PLANES[] = {",
            *(_plane_text(plane) for plane in program.planes),
            "};",
            "static const layer LAYERS[] = {",
            *(_layer_text(layer, places) for layer in program.layers),
            "};",
        ]
    )
    head = (
        f"/* {architecture} in int8, {program.image[0]} x {program.image[1]}: "
        f"{program.macs / 1e6:.0f} million multiply-accumulates an image.\n"
        f"   {_AUTHOR}; the layers are below, the kernels behind them. */\n"
        "#define _GNU_SOURCE\n"
        f'#include "{HEADER}"\n'
    )
    return "\n".join([head, _part("types.h"), tables, *(_part(name) for name in PARTS)])


def _with_colours(program: Program, metadata: ModelMetadata) -> tuple[bytes, dict[str, int]]:
    """Return the weights with the table of colours, and where that and the memory are.

    A byte of a colour is normalised as :func:`reid_edge.data.decoding.normalise_array` does it, and
    quantized as the image of floats is.
    """
    values = np.arange(256, dtype=np.float32)[None] * np.float32(1 / 255)
    values = values - np.asarray(metadata.mean, np.float32)[:, None]
    values = values / np.asarray(metadata.std, np.float32)[:, None]
    zero = program.image_zero
    steps = np.clip(values * np.float32(1 / program.image_scale), -zero, 255 - zero)
    table = (np.round(steps) + zero).astype(np.uint8).tobytes()
    width = program.image[1]
    # As images.c uses it: windows, weights, sums, a wide row, the rows that are kept, and one more.
    resizing = width * (8 + 4 * 66 + 15 * 32 + 3 * 66 + 3) + ALIGNMENT
    return program.weights + table, {
        "COLOUR_TABLE": len(program.weights),
        "RESIZING": program.scratch,
        "IMAGE_PLANE": 0,
        "ARENA_SIZE": max(program.arena, program.scratch + resizing + SLACK),
    }


def _definitions(program: Program) -> str:
    height, width = program.image
    numbers = {"REID_HEIGHT": height, "REID_WIDTH": width, "REID_SIZE": program.size}
    return "\n".join(f"#define {name} {value}" for name, value in numbers.items())


def _plane_text(plane: Plane) -> str:
    numbers = plane.offset, plane.height, plane.width, plane.channels, plane.zero
    return f"    {{{', '.join(map(str, numbers))}}}, /* {_comment(plane.name)} */"


def _layer_text(layer: Layer, places: Mapping[Plane, int]) -> str:
    gates = layer.gates or (None,) * len(layer.inputs)
    fields = {
        "y": -1 if layer.y is None else places[layer.y],
        "inputs": _array(places[plane] for plane in layer.inputs),
        "gates": _array(-1 if plane is None else places[plane] for plane in gates),
        "input_count": len(layer.inputs),
        "sums": -1 if layer.sums is None else places[layer.sums],
        **{name: value for name, value in layer.numbers.items() if value},
    }
    written = ", ".join(f".{name} = {value}" for name, value in fields.items())
    return f"    /* {_comment(layer.name)} */\n    {{.kind = {layer.kind}, {written}}},"


def _array(values: object) -> str:
    assert hasattr(values, "__iter__")
    return "{" + ", ".join(str(value) for value in values) + "}"


def _comment(name: str) -> str:
    return name.replace("*/", "* /").replace("\\", "/").encode("ascii", "replace").decode()


def _c_string(text: str) -> str:
    """Return ASCII text as a literal of C."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _part(name: str) -> str:
    return (files("quantize.c_engine") / "c" / name).read_text(encoding="utf-8")

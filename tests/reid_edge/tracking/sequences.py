"""Sequences made by hand, whose scores can be computed on paper."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)
# Left, top, width and height of two places that do not touch, in pixels from 1.
LEFT, RIGHT = (5, 9, 16, 32), (41, 9, 16, 32)
Line = Sequence[float]


def write_sequence(
    folder: Path, length: int, truth: Iterable[Line], detections: Iterable[Line], **info: object
) -> Path:
    """Write a sequence without images: lines of gt.txt and det.txt."""
    for name, lines in (("gt", truth), ("det", detections)):
        path = folder / name / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(",".join(f"{value:g}" for value in line) + "\n" for line in lines))
    values = {"seqLength": length, "frameRate": 10, "imDir": "img1", "imExt": ".png", **info}
    lines = [f"{key}={value}" for key, value in values.items() if value is not None]
    (folder / "seqinfo.ini").write_text("\n".join(["[Sequence]", *lines]) + "\n")
    return folder


def write_images(folder: Path, length: int, boxes: dict[int, list[tuple[Line, tuple]]]) -> None:
    """Write grey frames of 64 x 48 with boxes of one colour each."""
    (folder / "img1").mkdir()
    for frame in range(1, length + 1):
        pixels = np.full((48, 64, 3), 128, dtype=np.uint8)
        for (left, top, width, height), colour in boxes.get(frame, []):
            pixels[int(top) - 1 : int(top + height) - 1, int(left) - 1 : int(left + width) - 1] = (
                colour
            )
        Image.fromarray(pixels).save(folder / "img1" / f"{frame:06d}.png")


def swapped_places(folder: Path) -> Path:
    """Red (1) and blue (2) stand in frames 1 to 4, are hidden, and have changed places in 9 to 12.

    Every box is detected. By overlap alone each place is one track. By colour each person is one.
    """
    shown = {
        frame: [(LEFT, RED), (RIGHT, BLUE)] if frame <= 4 else [(RIGHT, RED), (LEFT, BLUE)]
        for frame in (1, 2, 3, 4, 9, 10, 11, 12)
    }
    truth = [
        (frame, number, *box, 1, 1, 1)
        for frame, pair in shown.items()
        for number, (box, _) in enumerate(pair, start=1)
    ]
    detections = [(frame, -1, *box, 0.9, -1, -1, -1) for frame, pair in shown.items()
                  for box, _ in pair]  # fmt: skip
    write_sequence(folder, 12, truth, detections)
    write_images(folder, 12, shown)
    return folder


def save_colour_model(path: Path) -> Path:
    """Write a model whose embedding is the mean of each colour in [0, 1]."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["output"]),
    ]
    given = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, ["n", 3, 8, 4])
    made = helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "colour", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kept = {"input_size": "[8, 4]", "mean": "[0, 0, 0]", "std": "[1, 1, 1]"}
    helper.set_model_props(model, {"architecture": "colour", **kept})
    onnx.save(model, path)
    return path

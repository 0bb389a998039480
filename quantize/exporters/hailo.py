"""Input of Hailo's Dataflow Compiler: a static float ONNX file, calibration images, two scripts.

The compiler is not in a package registry, so that it is not run here. What it takes is: the ONNX
file, checked here with ONNX Runtime, and images (N, H, W, 3) of 0 to 255; the model script puts the
normalisation on the device.
"""

import json
from pathlib import Path

from quantize.compiler_bundle import (
    as_npy,
    calibration_images,
    normalisation,
    static_model,
    write_bundle,
)
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.model_file import ONNX_INPUT, ONNX_OUTPUT

_COMPILE = '''"""Compile model.onnx for a Hailo device; needs Hailo's Dataflow Compiler.

    python compile.py hailo8l
"""

import sys

import numpy as np
from hailo_sdk_client import ClientRunner

device = sys.argv[1] if len(sys.argv) > 1 else "hailo8l"
runner = ClientRunner(hw_arch=device)
runner.translate_onnx_model(
    "model.onnx",
    "reid",
    start_node_names=["{input}"],
    end_node_names=[{last}],
    net_input_shapes={{"{input}": {shape}}},
)
runner.load_model_script("model.alls")
runner.optimize(np.load("calibration.npy"))
with open("model.hef", "wb") as file:
    file.write(runner.compile())
'''


def write_file(source: ExportSource, path: Path) -> None:
    """Write the archive out of the float ONNX file."""
    import onnx

    batch = source.batch or 1
    calibration = source.draw_calibration()
    metadata = source.int8_metadata(calibration)
    model = static_model(source.file("onnx"), batch, metadata.to_strings())
    mean, std = normalisation(metadata)
    last = next(
        node.name
        for node in onnx.load_model_from_string(model).graph.node
        if ONNX_OUTPUT in node.output
    )
    # As a literal: a foreign file may have any text as the name of a node.
    shape = [batch, *source.example.shape[1:]]
    script = _COMPILE.format(input=ONNX_INPUT, last=json.dumps(last), shape=shape)
    files = {
        "calibration.npy": as_npy(calibration_images(calibration.batches, metadata)),
        "model.alls": f"normalization1 = normalization({mean}, {std})\n".encode(),
        "compile.py": script.encode(),
    }
    write_bundle(path, model, files)


HAILO = Exporter(
    "hailo",
    "input of Hailo's compiler: static ONNX, calibration images, scripts",
    "hailo.zip",
    write_file,
    made_of=("onnx",),
    timed=False,
    meant_for="Hailo-8, Hailo-10 (Dataflow Compiler)",
    needs_model=False,
    batching="fixed",
    calibrated=True,
)

"""Run a model file on images; this file runs in the emulated interpreter, with few packages.

    python run_model.py FILE IMAGES.npy EMBEDDINGS.npy CALLS

Each call stands between two getppid(), which tell the instruction counter where it begins and ends.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def open_onnx(path: str) -> Callable[[Any], Any]:
    """Open an ONNX file on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def open_torchscript(path: str) -> Callable[[Any], Any]:
    """Open a TorchScript file on one thread, with QNNPACK for int8."""
    import torch

    torch.set_num_threads(1)
    torch.backends.quantized.engine = "qnnpack"
    module = torch.jit.load(path).eval()  # type: ignore[no-untyped-call]

    def call(images: Any) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return call


def main(path: str, images_file: str, embeddings_file: str, calls: str) -> None:
    """Run the file and write its embeddings."""
    images = np.load(images_file)
    call = (open_onnx if Path(path).suffix == ".onnx" else open_torchscript)(path)
    for _ in range(int(calls)):
        os.getppid()
        embeddings = call(images)
        os.getppid()
    np.save(embeddings_file, embeddings)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Write a folder for a device: model files, images, the script that times them."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.errors import ModelError, PipelineError
from reid_edge.core.io import write_json, written_aside
from reid_edge.core.model_file import FLOAT_INPUT

SCRIPT = "device_timing.py"
# Kinds of files that the script has readers for.
KINDS = ("onnx", "openvino", "litert", "ncnn", "mnn", "torchscript", "executorch")
# Images of noise whose embeddings are compared.
IMAGES = 8

logger = logging.getLogger(__name__)

_RUN = f"""#!/bin/sh
# Times all files of this folder; needs python3, NumPy and the runtimes of the files.
cd "$(dirname "$0")" && exec python3 {SCRIPT}
"""


def write_pack(
    files: Sequence[Path],
    folder: Path,
    *,
    batches: Sequence[int],
    threads: Sequence[int] | None,
    rounds: int,
    input_size: tuple[int, int] | None = None,
) -> None:
    """Write model files, images, this machine's embeddings of them, and a script for a device.

    Args:
        files: model files; checkpoints cannot be packed, they need this program.
        folder: where to write; it does not exist yet, or is empty.
        batches: images in a call.
        threads: threads of a call; None: 1, and all cores of the device.
        rounds: timed calls of each file.
        input_size: (height, width); by default each file's own.

    Raises:
        ReidError: a file cannot be packed, loaded or run, or the folder cannot be written.
    """
    from reid_edge.core.backends import model_file_parts, recognise
    from reid_edge.inference.embedder import embed_batch, load_embedder

    if folder.is_dir() and any(folder.iterdir()):
        raise PipelineError(f"{folder}: is not empty; name a new folder")
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise PipelineError("two files have the same name; rename one")
    with written_aside(folder) as draft:
        entries = []
        for path in files:
            kind = recognise(path).name
            if kind not in KINDS:
                raise ModelError(
                    f"{path}: a file of the kind {kind!r} cannot be timed by the script; it takes "
                    f"{', '.join(KINDS)}"
                )
            logger.info("embedding %d images with %s", IMAGES, path)
            embedder = load_embedder(path, input_size=input_size)
            height, width = embedder.space.input_size
            generator, shape = np.random.default_rng(0), (IMAGES, 3, height, width)
            noise: NDArray[Any] = generator.standard_normal(shape).astype(np.float32)
            images = f"images_{height}x{width}.npy"
            if embedder.space.input_form != FLOAT_INPUT:
                noise = generator.integers(0, 256, shape, np.uint8)
                images = f"pixels_{height}x{width}.npy"
            np.save(draft / images, noise)
            embeddings = f"{path.name}.embeddings.npy"
            np.save(draft / embeddings, embed_batch(embedder, noise))
            for part in model_file_parts(path):
                if part.is_file():
                    shutil.copyfile(part, draft / part.name)
            entries.append(
                {
                    "name": path.name,
                    "kind": kind,
                    "images": images,
                    "embeddings": embeddings,
                    "batch": fixed_batch(path, kind),
                    **cost_entries(path, kind),
                }
            )
        pack = {"format": 1, "batches": list(batches), "rounds": rounds, "files": entries}
        write_json(
            draft / "pack.json", {**pack, "threads": None if threads is None else [*threads]}
        )
        script = Path(__file__).resolve().parents[1] / "quantize" / SCRIPT
        shutil.copyfile(script, draft / SCRIPT)
        (draft / "run.sh").write_text(_RUN)
        (draft / "run.sh").chmod(0o755)
    logger.info("written: %s; copy it to the device and run run.sh there", folder)


def cost_entries(path: Path, kind: str) -> dict[str, Any]:
    """Return what a result says of the operations of a file: of ONNX files, all there is."""
    from quantize.onnx_macs import onnx_cost

    cost = onnx_cost(path) if kind == "onnx" else None
    return {} if cost is None else {"macs": cost.macs, "int8": cost.int8}


def fixed_batch(path: Path, kind: str) -> int | None:
    """Return the batch that a file is fixed to, or None if it takes any."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        batch = session.get_inputs()[0].shape[0]
        return batch if isinstance(batch, int) else None
    if kind == "openvino":
        import openvino

        side = openvino.Core().read_model(path).input(0).get_partial_shape()[0]
        return None if side.is_dynamic else int(side.get_length())
    if kind == "litert":
        from ai_edge_litert.interpreter import Interpreter

        return int(Interpreter(model_path=str(path)).get_input_details()[0]["shape"][0])
    return None

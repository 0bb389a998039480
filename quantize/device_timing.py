"""Time the model files of this folder on this device, and compare their embeddings.

    python3 device_timing.py

Needs Python 3.8 or newer, NumPy, and the runtimes of the files; a file whose runtime is not here is
noted as such. ``pack.json`` says what to time. The result is ``result.json``, which
``reid-edge benchmark --read`` shows. This file is also part of reid-edge, but needs nothing of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Callable, Dict  # noqa: UP035  (devices have old versions of Python)

import numpy as np

Embed = Callable[[Any], Any]
Values = Dict[str, Any]  # noqa: UP006

WARMUP = 2
FLAGS = [
    "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "neon", "asimd", "asimddp", "i8mm",
    "sve", "bf16", "fphp", "asimdhp",
]  # fmt: skip
PACKAGES = ("numpy", "onnxruntime", "openvino", "ai-edge-litert", "tflite-runtime", "ncnn", "MNN",
            "torch", "executorch")  # fmt: skip
# Of ONNX Runtime: the images are float32 and are cast to these.
ONNX_FLOATS = {"tensor(float16)": np.float16, "tensor(double)": np.float64}
# What a file has over all numbers of threads.
WORST: dict[str, Callable[..., Any]] = {"lowest_cosine": min, "peak_bytes": max}
# Seconds that one file may take for one number of threads.
LIMIT_S = 1200


def open_onnx(path: Path, threads: int) -> Embed:
    """Return what embeds images with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = ONNX_FLOATS.get(given.type)

    def embed(images: Any) -> Any:
        return session.run(None, {given.name: images if kind is None else images.astype(kind)})[0]

    return embed


def open_openvino(path: Path, threads: int) -> Embed:
    """Return what embeds images with OpenVINO."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    requests: dict[Any, Any] = {}

    def embed(images: Any) -> Any:
        if images.shape not in requests:
            model.reshape(list(images.shape))
            compiled = core.compile_model(model, "CPU", settings)
            requests[images.shape] = compiled.create_infer_request()
        return np.array(requests[images.shape].infer([images])[0])

    return embed


def open_litert(path: Path, threads: int) -> Embed:
    """Return what embeds images with LiteRT, or with TensorFlow Lite's older packages."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError:
            from tensorflow.lite.python.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    channels_last = given["shape"][3] == 3

    def embed(images: Any) -> Any:
        ordered = images.transpose(0, 2, 3, 1) if channels_last else images
        if given["dtype"] != np.float32:
            scale, zero = given["quantization"]
            limits = np.iinfo(given["dtype"])
            ordered = np.clip(np.rint(ordered / scale) + zero, limits.min, limits.max)
        ordered = np.ascontiguousarray(ordered, dtype=given["dtype"])
        interpreter.set_tensor(given["index"], ordered)
        interpreter.invoke()
        found = interpreter.get_tensor(made["index"])
        if found.dtype == np.float32:
            return np.array(found)
        scale, zero = made["quantization"]
        return (found.astype(np.float32) - zero) * scale

    return embed


def open_ncnn(path: Path, threads: int) -> Embed:
    """Return what embeds images with NCNN."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError("NCNN cannot read the file")
    names = net.input_names()[0], net.output_names()[0]

    def embed(images: Any) -> Any:
        rows = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input(names[0], ncnn.Mat(np.ascontiguousarray(image)).clone())
            rows.append(np.array(extractor.extract(names[1])[1]).reshape(-1))
        return np.stack(rows)

    return embed


def open_mnn(path: Path, threads: int) -> Embed:
    """Return what embeds images with MNN."""
    import MNN

    config = {"backend": 0, "numThread": threads, "precision": "high"}
    runtime = MNN.nn.create_runtime_manager((config,))
    net = MNN.nn.load_module_from_file(str(path), [], [], runtime_manager=runtime)

    def embed(images: Any) -> Any:
        given = MNN.expr.const(
            np.ascontiguousarray(images), list(images.shape), MNN.expr.NCHW, MNN.expr.float
        )
        found = net.forward([given])[0]
        return np.array(MNN.expr.convert(found, MNN.expr.NCHW).read())

    return embed


def open_torchscript(path: Path, threads: int) -> Embed:
    """Return what embeds images with TorchScript."""
    import torch

    torch.set_num_threads(threads)
    extra = {"metadata.json": ""}
    with torch.inference_mode():
        model: Any = torch.jit.load(str(path), _extra_files=extra)  # type: ignore[no-untyped-call]
    engine = json.loads(extra["metadata.json"] or "{}").get("engine")
    if engine:
        torch.backends.quantized.engine = engine

    def embed(images: Any) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return embed


def open_executorch(path: Path, threads: int) -> Embed:
    """Return what embeds images with ExecuTorch."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(str(path)).load_method("forward")
    return lambda images: method.execute([torch.from_numpy(images)])[0].numpy()


READERS = {
    "onnx": open_onnx,
    "openvino": open_openvino,
    "litert": open_litert,
    "ncnn": open_ncnn,
    "mnn": open_mnn,
    "torchscript": open_torchscript,
    "executorch": open_executorch,
}


def in_parts(embed: Embed, size: int | None) -> Embed:
    """Return what embeds any number of images with a file for a fixed number of them."""
    if not size:
        return embed

    def embed_any(images: Any) -> Any:
        places = np.arange(-(-len(images) // size) * size) % len(images)
        parts = [embed(images[part]) for part in places.reshape(-1, size)]
        return np.concatenate(parts)[: len(images)]

    return embed_any


def time_file(folder: Path, entry: Values, pack: Values, threads: int) -> Values:
    """Return the times of one file in this process, its memory and its agreement."""
    before = memory("VmRSS")
    began = time.perf_counter()
    embed = in_parts(READERS[entry["kind"]](folder / entry["name"], threads), entry["batch"])
    images = np.load(folder / entry["images"])
    found = embed(images)
    loaded = time.perf_counter() - began
    timings = []
    for batch in pack["batches"]:
        given = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
        times = []
        for number in range(WARMUP + pack["rounds"]):
            start = time.perf_counter()
            embed(given)
            if number >= WARMUP:
                times.append(1000 * (time.perf_counter() - start))
        times.sort()
        timings.append(
            {
                "batch": batch,
                "threads": threads,
                "median_ms": statistics.median(times),
                "lower_quartile_ms": times[len(times) // 4],
                "upper_quartile_ms": times[(3 * len(times)) // 4],
            }
        )
    expected = np.load(folder / entry["embeddings"])
    peak = memory("VmHWM")
    return {
        "load_ms": 1000 * loaded,
        "peak_bytes": None if peak is None or before is None else peak - before,
        "lowest_cosine": float((unit(found) * unit(expected)).sum(1).min()),
        "timings": timings,
    }


def unit(embeddings: Any) -> Any:
    """Return embeddings divided by their lengths."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def memory(field: str) -> int | None:
    """Return the present or peak memory of this process in bytes, or None (Linux tells)."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def describe_machine() -> Values:
    """Return processor, instructions, system and versions."""
    info = Path("/proc/cpuinfo")
    fields: Values = {}
    for line in info.read_text().splitlines() if info.is_file() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    board = Path("/proc/device-tree/model")
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {
        "name": board.read_text().strip("\0\n ") if board.is_file() else platform.node(),
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "packages": {name: version(name) for name in PACKAGES if version(name)},
    }


def version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return installed(package)
    except PackageNotFoundError:
        return None


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def time_apart(folder: Path, entry: Values, threads: int) -> Values:
    """Time a file in a process of its own, which may crash or hang; return the result."""
    command = [sys.executable, __file__, "--file", entry["name"], "--threads", str(threads)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    try:
        done = subprocess.run(
            command, capture_output=True, cwd=folder, timeout=LIMIT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"took more than {LIMIT_S} s and was stopped"}
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode == 0 and lines:
        return dict(json.loads(lines[-1]))
    said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    how = f"crashed with signal {-done.returncode}" if done.returncode < 0 else "failed"
    return {"problem": f"{how}: {' '.join(said[-1].split())[:200]}" if said else how}


def main() -> int:
    """Time all files, or with ``--file`` one of them in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", help="time this file alone and print the result")
    parser.add_argument("--threads", type=int, help="of --file")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    pack = json.loads((folder / "pack.json").read_text())
    if options.file:
        (entry,) = [each for each in pack["files"] if each["name"] == options.file]
        say(json.dumps(time_file(folder, entry, pack, options.threads)))
        return 0
    rows = []
    for entry in pack["files"]:
        digest = hashlib.sha256((folder / entry["name"]).read_bytes()).hexdigest()
        row: Values = {
            "name": entry["name"],
            "kind": entry["kind"],
            "sha256": digest,
            "timings": [],
        }
        row.update((key, entry[key]) for key in ("macs", "int8") if key in entry)
        for threads in pack["threads"] or sorted({1, os.cpu_count() or 1}):
            say(f"{entry['name']}, {threads} thread(s)")
            found = time_apart(folder, entry, threads)
            row["timings"] += found.pop("timings", [])
            for key, value in found.items():
                if row.get(key) is None:
                    row[key] = value
                elif value is not None and key in WORST:
                    row[key] = WORST[key](row[key], value)
        rows.append(row)
    result = {"format": 1, "machine": describe_machine(), "rounds": pack["rounds"], "files": rows}
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    say("written: result.json; copy it back, and read it with reid-edge benchmark --read")
    return 0


if __name__ == "__main__":
    sys.exit(main())

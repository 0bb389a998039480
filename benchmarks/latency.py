"""Time OSNet x0.5 in int8, written and quantized in several ways, beside x1.0 in eager mode.

    python -m benchmarks.latency
    python -m benchmarks.latency --rounds 100 --only "int8" --only "float" --profile
    python -m benchmarks.latency --peers --batch 16 --threads 2 --rounds 15

Weights are random: latency does not depend on them. Every file is a process of its own, all are
called in turns. ``--peers`` leaves out what is no peer of the float and the int8 file. The C engine
is timed with each of its kernels that the processor has; OpenVINO, NCNN, MNN, LiteRT and ExecuTorch
where they are installed. ``--profile`` prints what each kind of operator costs in ONNX Runtime,
inflated by the measuring.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.command import at_least, make_parser
from benchmarks.latency_variants import one_gate_call, stem_on_blocks, streams_side_by_side
from pipeline.command import run_guarded
from quantize.exporters import EXPORTERS
from quantize.exporters.c_source import write_engine
from quantize.exporters.onnx_float import onnx_session, read_onnx, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.machine import machine_description
from quantize.measurements import Measurement
from quantize.timing import Model, measure_side_by_side
from quantize.worker import Call, Open
from reid_edge.core.backends import load_model_file
from reid_edge.core.errors import ModelError, ReidError
from reid_edge.core.exporter import CalibrationBatches, ExportSource
from reid_edge.core.model_file import ONNX_INPUT, LoadOptions, ModelMetadata
from reid_edge.core.packages import missing_packages
from reid_edge.inference.backends import c_library
from reid_edge.models import build_model
from reid_edge.models.osnet import OSNet

SIZE = (256, 128)
# Middle channels of the blocks are a quarter of these; those of x0.5 are 32, 48, 64.
WIDTHS_OF_4 = (32, 144, 208, 272)
WIDTHS_OF_8 = (32, 160, 224, 288)
PROFILED_CALLS = 50
# Of the C engine; those that the processor has are timed.
KERNELS = ("avx2", "avx_vnni", "avx512_vnni", "amx", "neon_dotprod", "neon_i8mm")

# The files that other runtimes' are compared with.
PEERS_OF = ("x1.0 float", "float", "int8")
# Other runtimes' formats of the float file and of int8, timed where their packages are.
PEERS = {"float": ("ncnn", "mnn", "litert", "executorch"), "int8": ("litert_int8",)}

Write = Callable[[Path], None]


def main(options: argparse.Namespace) -> None:
    """Write the files, measure them, print the table."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    console = Console(width=130)
    with tempfile.TemporaryDirectory() as folder:
        only = PEERS_OF if options.peers else options.only
        files = write_files(Path(folder), only, console)
        openers: dict[str, Open] = {
            "x1.0, eager": partial(open_eager, torch.contiguous_format),
            "x1.0, eager, channels last": partial(open_eager, torch.channels_last),
            "x1.0, TorchScript": open_torchscript,
            **{name: partial(open_onnx, path) for name, path in files.items()},
            **peers(Path(folder), files, options.batch, console),
        }
        models = {name: Model(opener, (3, *SIZE)) for name, opener in openers.items()}
        measured = measure_side_by_side(
            models,
            batches=(options.batch,),
            threads=(options.threads,),
            rounds=options.rounds,
            calls=options.calls,
        )
        console.print(latency_table(measured, options.batch, options.threads))
        console.print(str(machine_description()), highlight=False)
        if options.profile:
            for name, path in files.items():
                console.print(profile_table(name, path))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=at_least(2), default=60)
    parser.add_argument(
        "--calls", type=at_least(1), default=1, help="of a file in a row, whose median counts"
    )
    parser.add_argument("--only", action="append", choices=list(WRITERS), help="may be repeated")
    parser.add_argument("--peers", action="store_true", help=f"only {', '.join(PEERS_OF)}")
    parser.add_argument("--batch", type=at_least(1), default=1, help="images in a call")
    parser.add_argument("--threads", type=at_least(1), default=1)
    parser.add_argument("--profile", action="store_true", help="per kind of operator")
    return parser.parse_args()


def write_files(folder: Path, only: Sequence[str] | None, console: Console) -> dict[str, Path]:
    """Write the ONNX files that were asked for."""
    files: dict[str, Path] = {}
    for number, (name, write) in enumerate(WRITERS.items()):
        if only is None or name in only:
            console.print(f"writing {name}", style="dim", highlight=False)
            files[name] = folder / f"{number}.onnx"
            write(files[name])
    return files


def narrow(*changes: Callable[[nn.Module], None]) -> nn.Module:
    """Return an OSNet x0.5 written in another way."""
    torch.manual_seed(0)
    model = build_model("osnet_x0_5").eval()
    for change in changes:
        change(model)
    return model


def images(count: int = 2) -> Tensor:
    """Return random images (N, 3, H, W)."""
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def wide(channels: tuple[int, int, int, int]) -> nn.Module:
    """Return an OSNet of other widths."""
    return OSNet(channels, embedding_dim=512).eval()


def write_float(make: Callable[[], nn.Module], path: Path) -> None:
    """Write a float file."""
    save_onnx(make(), images(1), path, {})


def write_int8(make: Callable[[], nn.Module], path: Path) -> None:
    """Write an int8 file as the stage export does."""
    source = path.with_suffix(".float.onnx")
    write_float(make, source)
    quantize_onnx(source, [images()], path, method="minmax")


class OneBatch(CalibrationDataReader):  # type: ignore[misc]
    """The random images as ONNX Runtime asks for them."""

    def __init__(self) -> None:
        self._due = iter([{ONNX_INPUT: images().numpy()}])

    def get_next(self) -> dict[str, Any] | None:
        """Return the batch the first time."""
        return next(self._due, None)


def write_as_ort_does(path: Path, *, gates: bool = True, signed: bool = False) -> None:
    """Write an int8 file as ONNX Runtime does by itself, pooling as pooling.

    Args:
        path: where to write.
        gates: quantize the gates too.
        signed: activations of int8 instead of uint8.
    """
    source, prepared = path.with_suffix(".float.onnx"), path.with_suffix(".prepared.onnx")
    write_float(narrow, source)
    quant_pre_process(read_onnx(source), str(prepared), skip_symbolic_shape=True)
    names = [node.name for node in read_onnx(prepared).graph.node]
    quantize_static(
        str(prepared),
        str(path),
        OneBatch(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[] if gates else [name for name in names if "/gate/" in name],
    )


WRITERS: dict[str, Write] = {
    "x1.0 float": partial(write_float, partial(build_model, "osnet_x1_0")),
    "float": partial(write_float, narrow),
    "int8": partial(write_int8, narrow),
    "int8, pooling as pooling": write_as_ort_does,
    "int8, gates in float": partial(write_as_ort_does, gates=False),
    "int8, signed activations": partial(write_as_ort_does, signed=True),
    "int8, one gate call": partial(write_int8, partial(narrow, one_gate_call)),
    "int8, streams side by side": partial(write_int8, partial(narrow, streams_side_by_side)),
    "int8, streams side by side, stem on blocks": partial(
        write_int8, partial(narrow, streams_side_by_side, stem_on_blocks)
    ),
    "int8, middle widths 36, 52, 68": partial(write_int8, partial(wide, WIDTHS_OF_4)),
    "int8, middle widths 40, 56, 72": partial(write_int8, partial(wide, WIDTHS_OF_8)),
}


def open_eager(layout: torch.memory_format) -> Call:
    """Open OSNet x1.0 in eager mode, with weights and images in a layout."""
    model = build_model("osnet_x1_0").eval().to(memory_format=layout)
    return lambda batch: model(batch.contiguous(memory_format=layout))


def open_onnx(path: Path) -> Call:
    """Open an ONNX file; it runs on as many threads as PyTorch, as all files do."""
    session = onnx_session(path, threads=torch.get_num_threads())
    return lambda batch: session.run(None, {ONNX_INPUT: batch.numpy()})


def open_torchscript() -> Call:
    """Open OSNet x1.0 as frozen TorchScript."""
    traced = torch.jit.trace(build_model("osnet_x1_0").eval(), images(1))  # type: ignore[no-untyped-call]
    frozen: Call = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    return frozen


def open_openvino(path: Path, precision: str) -> Call:
    """Open an ONNX file in OpenVINO; it is compiled for each size of batch that is asked for."""
    import openvino

    core = openvino.Core()
    threads = torch.get_num_threads()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    requests: dict[int, Any] = {}

    def call(batch: Tensor) -> object:
        count = len(batch)
        if count not in requests:
            model = core.read_model(path)
            model.reshape([count, 3, *SIZE])
            requests[count] = core.compile_model(model, "CPU", settings).create_infer_request()
        return requests[count].infer([batch.numpy()])

    return call


def open_engine(path: Path, kernels: str) -> Call:
    """Open a library of the C engine."""
    embed = c_library.load(path, LoadOptions(threads=torch.get_num_threads()), kernels).embed
    return lambda batch: embed(batch.numpy())


def peer_source(files: dict[str, Path], batch: int | None) -> ExportSource:
    """Return what the files of other runtimes are made from, for calls of so many images."""
    made = {"onnx": files["float"]} if "float" in files else {}
    return ExportSource(
        narrow(),
        torch.zeros(1, 3, *SIZE),
        ModelMetadata(input_size=SIZE),
        lambda: CalibrationBatches([images()]),
        files=made,
        batch=batch,
    )


def open_peer(path: Path) -> Call:
    """Open a file of another runtime."""
    embed = load_model_file(path, LoadOptions(threads=torch.get_num_threads())).embed
    return lambda batch: embed(batch.numpy())


def peers(folder: Path, files: dict[str, Path], batch: int, console: Console) -> dict[str, Open]:
    """Return what else runs the float and the int8 file of x0.5 here, by name."""
    found: dict[str, Open] = {}
    if "float" in files and not missing_packages(("openvino",)):
        for precision in ("f32", "bf16"):
            name = f"float, OpenVINO, {precision}"
            found[name] = partial(open_openvino, files["float"], precision)
    for kind, names in PEERS.items():
        for name in names if kind in files else ():
            exporter = EXPORTERS.load(name)
            if missing_packages(exporter.packages):
                continue
            if exporter.batching == "fixed" and batch > 1:
                console.print(f"{name} is left out: its files take one image", highlight=False)
                continue
            console.print(f"writing {name}", style="dim", highlight=False)
            source = peer_source(files, 1 if exporter.batching == "fixed" else None)
            path = folder / exporter.file_name(source)
            try:
                exporter.write(source, path)
                open_peer(path)
            except ReidError as error:
                console.print(f"{name} is left out: {error}", markup=False, highlight=False)
            else:
                found[f"{kind}, {name}"] = partial(open_peer, path)
    if "int8" in files:
        if not missing_packages(("openvino",)):
            found["int8, OpenVINO"] = partial(open_openvino, files["int8"], "f32")
        console.print("building the C engine", style="dim", highlight=False)
        library = folder / "model.so"
        write_engine(files["int8"], images(), library)
        for kernels in KERNELS:
            with suppress(ModelError):
                open_engine(library, kernels)
                found[f"int8, C engine, {kernels}"] = partial(open_engine, library, kernels)
    return found


def latency_table(measured: dict[str, Measurement], batch: int, threads: int) -> Table:
    """Return a table of wall time, processor time and the speed relative to the first file."""
    title = (
        f"OSNet x0.5, {SIZE[0]} x {SIZE[1]}, batch {batch}, {threads} thread(s); times of a call"
    )
    table = Table(title=title)
    table.add_column("file")
    headings = ("median", "quartiles", "processor", "times x1.0", "by processor", "by x1.0 ONNX")
    for heading in (*headings, "memory"):
        table.add_column(heading, justify="right")
    reference = next(iter(measured.values())).timings[0].cpu_ms
    in_onnx = measured["x1.0 float"].timings[0].cpu_ms if "x1.0 float" in measured else None
    for name, measurement in measured.items():
        (timing,) = measurement.timings
        peak = measurement.peak_bytes
        table.add_row(
            name,
            f"{timing.median_ms:.2f} ms",
            f"{timing.lower_quartile_ms:.2f}-{timing.upper_quartile_ms:.2f}",
            f"{timing.cpu_ms:.2f} ms",
            f"{timing.speedup:.1f}",
            f"{reference / timing.cpu_ms:.1f}",
            "-" if in_onnx is None else f"{in_onnx / timing.cpu_ms:.1f}",
            "-" if peak is None else f"{peak / 1e6:.0f} MB",
        )
    return table


def profile_table(name: str, path: Path) -> Table:
    """Return the median time of every kind of operator, summed over its layers."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in profile(path):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"])
    kinds: dict[str, list[float]] = defaultdict(list)
    for (kind, _), durations in times.items():
        kinds[kind].append(median(durations))
    table = Table(title=name, title_justify="left")
    for heading in ("operator", "layers", "microseconds"):
        table.add_column(heading, justify="left" if heading == "operator" else "right")
    for kind, durations in sorted(kinds.items(), key=lambda entry: -sum(entry[1])):
        table.add_row(kind, str(len(durations)), f"{sum(durations):.0f}")
    return table


def profile(path: Path) -> list[dict[str, Any]]:
    """Return ONNX Runtime's events of some calls."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    batch = images(1).numpy()
    for _ in range(PROFILED_CALLS):
        session.run(None, {ONNX_INPUT: batch})
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    return events


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

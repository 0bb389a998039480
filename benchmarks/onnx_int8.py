"""What each way of choosing int8 ranges costs a model in ONNX Runtime.

    python -m benchmarks.onnx_int8 --model runs/osnet_x0_5/finetune/checkpoint.pt --data cuhk03-dev

Every row is made of the same float ONNX file and calibrated on the same images. Latency is of
batch 1 on one thread, all files in turn. ``--engine`` adds the C engine of each int8 file (needs a
C compiler), ``--nncf`` the files that NNCF makes (``pip install nncf==3.4.0``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import at_least, make_parser
from benchmarks.nncf_int8 import PRESETS, import_nncf, quantize_by_nncf
from pipeline.command import run_guarded
from quantize.exporters.c_source import write_engine
from quantize.exporters.onnx_float import onnx_session, save_onnx
from quantize.exporters.onnx_int8 import quantize_onnx
from quantize.parity import compare
from quantize.timing import Candidate, measure_latency
from reid_edge.core.backends import load_model_file
from reid_edge.core.errors import PipelineError
from reid_edge.core.model_file import ONNX_INPUT, Embed, LoadOptions
from reid_edge.data.loaders import stack_images
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import ReidData, Sample, choose_over_cameras, label_tensors
from reid_edge.inference.embedder import load_embedder
from reid_edge.metrics import evaluate_ranking

BATCH = 64
ROWS: dict[str, dict[str, Any]] = {
    "percentile 99.999": {},
    "percentile 99.99": {"percentile": 99.99},
    "min-max": {"method": "minmax"},
    "min-max, not refined": {"method": "minmax", "refined": False},
    "entropy": {"method": "entropy"},
    "percentile 99.999, 7-bit weights": {"reduce_range": True},
    "percentile 99.999, per tensor": {"per_channel": False},
    "percentile 99.999, not refined": {"refined": False},
}


def main(options: argparse.Namespace) -> None:
    """Make the files, measure each, print the table."""
    if options.nncf:
        import_nncf()
    model = load_model_file(options.model).module
    if model is None:
        raise PipelineError(f"{options.model}: is no checkpoint; give one")
    data = read_market1501(options.data)
    size = load_embedder(options.model).space.input_size
    images = {
        name: stack(getattr(data, name), size).split(BATCH)  # type: ignore[no-untyped-call]
        for name in ("query", "gallery")
    }
    drawn = choose_over_cameras(data.train, options.images, options.seed)
    calibration = stack(drawn, size).split(BATCH)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": Path(folder) / "float.onnx"}
        save_onnx(model, torch.zeros(1, 3, *size), files["float"], {})
        for number, (name, choices) in enumerate(ROWS.items()):
            if options.only and name not in options.only:
                continue
            files[name] = Path(folder) / f"{number}.onnx"
            quantize_onnx(files["float"], calibration, files[name], **choices)
        for preset in PRESETS if options.nncf else ():
            name = f"NNCF, {preset}"
            files[name] = Path(folder) / f"nncf_{preset}.onnx"
            quantize_by_nncf(files["float"], calibration, files[name], preset=preset)
        if options.engine:
            example = torch.cat(images["query"])[:2]
            for number, name in enumerate([name for name in files if name != "float"]):
                library = Path(folder) / f"{number}.so"
                write_engine(files[name], example, library)
                files[f"{name}, C engine"] = library
        opened = {name: open_file(path) for name, path in files.items()}
        embeddings = {name: embed(call, images) for name, call in opened.items()}
        times = latencies(opened, torch.zeros(1, 3, *size), options.rounds)
        sizes = {name: path.stat().st_size for name, path in files.items()}
    Console(width=110).print(table(data, embeddings, times, sizes))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint of any program")
    parser.add_argument("--data", type=Path, required=True, help="in the Market-1501 layout")
    parser.add_argument("--images", type=at_least(1), default=256, help="to calibrate on")
    parser.add_argument("--rounds", type=at_least(2), default=200, help="timed calls of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the draw of these images")
    parser.add_argument("--only", action="append", choices=list(ROWS), help="rows; repeat it")
    parser.add_argument("--engine", action="store_true", help="the C engine of each int8 file")
    parser.add_argument("--nncf", action="store_true", help="NNCF's int8 files as well")
    return parser.parse_args()


def stack(chosen: tuple[Sample, ...] | list[Sample], size: tuple[int, int]) -> Tensor:
    """Load images (N, 3, H, W)."""
    return stack_images(chosen, height=size[0], width=size[1])


def open_file(path: Path) -> Embed:
    """Return what embeds images (N, 3, H, W) by a file."""
    if path.suffix == ".so":
        return load_model_file(path, LoadOptions(threads=1)).embed
    session = onnx_session(path)
    return lambda batch: session.run(None, {ONNX_INPUT: batch})[0]


def embed(call: Embed, images: dict[str, tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """Return a file's embeddings of queries and gallery."""
    query, gallery = (
        torch.cat([torch.from_numpy(call(batch.numpy())) for batch in batches])
        for batches in (images["query"], images["gallery"])
    )
    return query, gallery


def latencies(opened: dict[str, Embed], example: Tensor, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each file, all in turn."""
    given = example.numpy()
    candidates = {name: Candidate(partial(call, given)) for name, call in opened.items()}
    measured = measure_latency(candidates, rounds=rounds)
    return {name: latency.median_ms for name, latency in measured.items()}


def table(
    data: ReidData,
    embeddings: dict[str, tuple[Tensor, Tensor]],
    times: dict[str, float],
    sizes: dict[str, int],
) -> Table:
    """Return one row a file."""
    result = Table()
    for heading in ("", "mean cosine", "lowest", "mAP", "rank-1", "size", "latency"):
        result.add_column(heading, justify="right" if heading else "left")
    for name, found in embeddings.items():
        parity = compare(embeddings["float"], found, batch_difference=0.0)
        ranking = evaluate_ranking(
            found[0],
            *label_tensors(data.query),
            found[1],
            *label_tensors(data.gallery),
            distance="cosine",
        )
        result.add_row(
            name,
            f"{parity.mean_cosine:.4f}",
            f"{parity.lowest_cosine:.4f}",
            f"{100 * ranking.mean_average_precision:.1f}",
            f"{100 * ranking.cumulative_matching[1]:.1f}",
            f"{sizes[name] / 1e6:.2f} MB",
            f"{times[name]:.2f} ms",
        )
    return result


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

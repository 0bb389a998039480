"""Make models in every file format, compare each file with its model, and time it.

    python -m benchmarks.formats --x1_0 osnet_x1_0_msmt17.pth --x0_25 osnet_x0_25_msmt17.pth \
      --images cuhk03/bounding_box_test --output formats
    python -m benchmarks.formats ... --python litert=/path/to/an/environment/bin/python
    python -m benchmarks.formats ... --data cuhk03

The models are x1.0 and x0.25 as given, x0.5 cut out of x1.0 without training, x0.5 and OSNet-AIN as
given with ``--x0_5`` and ``--ain``, and OSNet-AIN x0.5, ResNet-18 and MobileNetV2 with random
weights and the BatchNorm statistics of some images. Each file is timed in turn with the float ONNX
file of its model, in processes of their own and on one thread: the table has its time as a share of
that file's, which other programs change little. What is in OUTPUT is not made, timed or measured
again, so that an interrupted benchmark is resumed. A group of formats whose packages are in another
environment is made by the interpreter that ``--python`` names. With ``--data``, the table has the
mAP of each file of a trained model on that data set.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from benchmarks.command import at_least, logger, make_parser
from pipeline.command import run_guarded
from pipeline.export_images import find_images, halve
from quantize.exporters.onnx_float import save_onnx
from reid_edge.core.backends import load_model_file
from reid_edge.core.errors import PipelineError
from reid_edge.inference.embedder import load_batches, load_embedder
from reid_edge.metrics.results import Evaluation
from reid_edge.models import build_model
from reid_edge.models.checkpoint import save_checkpoint
from reid_edge.models.checkpoint_info import CheckpointInfo

ROOT = Path(__file__).resolve().parents[1]
SIZE = (256, 128)
MADE_ON = 64  # images
BATCHES = (1, 16)
# Formats that are made together, by the name of the group.
GROUPS = {
    "onnx": (
        "onnx", "onnx_int8", "onnx_float16", "tensorrt_int8", "torchscript", "openvino",
        "openvino_int8", "openvino_bf16", "ncnn", "mnn", "mnn_int8", "rknn", "hailo", "c",
    ),
    "litert": ("litert", "litert_int8", "coreml"),
    "executorch": ("executorch",),
    # By itself: XNNPACK takes minutes to lower a whole OSNet in int8.
    "executorch_int8": ("executorch_int8",),
}  # fmt: skip
# Those that no runtime here runs as they are, or that are a float ONNX file in an archive.
NOT_RUN = ("coreml", "rknn", "hailo")
# Accuracy says nothing of the models with random weights.
TRAINED = ("osnet_x1_0", "osnet_x0_5", "osnet_x0_5_given", "osnet_x0_25", "osnet_ain_given")


@dataclass(frozen=True)
class Row:
    """A format of a model.

    Attributes:
        model: its name.
        file: the row of ``parity.json``.
        times: of calls of each of ``BATCHES``, as a share of the float ONNX file's; empty where
            the file was not timed.
        precision: mAP on the data set of ``--data``, from 0 to 1; None where it is not measured.
    """

    model: str
    file: Mapping[str, Any]
    times: tuple[float, ...]
    precision: float | None = None


def main(options: argparse.Namespace) -> None:
    """Make, compare and time what is not there yet, and print the table."""
    options.output.mkdir(parents=True, exist_ok=True)
    if options.most_images is not None:
        options.images = some_of(options.images, options.most_images, options.output / "images")
    rows: list[Row] = []
    for name, give in models(options).items():
        if options.table and not (options.output / name).is_dir():
            continue
        model = give()
        if options.data is not None and name in TRAINED:
            rows.append(checkpoint_row(options, name, model))
        for group in options.groups:
            folder = options.output / name / group
            python = options.python.get(group, sys.executable)
            if not (folder / "parity.json").is_file():
                if options.table:
                    continue
                logger.info("%s: writing the formats of %s", name, group)
                export(python, model, options.images, folder, GROUPS[group])
            rows += [
                Row(
                    name,
                    file,
                    times(python, options, name, file, folder),
                    precision(python, options, name, file, folder),
                )
                for file in files_of(folder, group)
            ]
            print_table(rows, options.output / "table.md")
    print((options.output / "table.md").read_text(), end="")  # noqa: T201


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--x1_0", type=Path, required=True, help="OSNet x1.0, a checkpoint")
    parser.add_argument("--x0_25", type=Path, required=True, help="OSNet x0.25, a checkpoint")
    parser.add_argument(
        "--x0_5", type=Path, help="a trained OSNet x0.5, which gets rows of its own"
    )
    parser.add_argument("--ain", type=Path, help="a trained OSNet-AIN, which gets rows of its own")
    parser.add_argument("--images", type=Path, required=True, help="images of persons")
    parser.add_argument("--most-images", type=at_least(64), help="of the folder; default: all")
    parser.add_argument("--output", type=Path, required=True, help="where results are kept")
    parser.add_argument("--rounds", type=at_least(2), default=20, help="timed calls of each file")
    parser.add_argument("--no-times", action="store_true", help="time no more files")
    parser.add_argument(
        "--table", action="store_true", help="write the table of what is there, and make nothing"
    )
    parser.add_argument("--data", type=Path, help="a data set on which mAP is measured")
    parser.add_argument("--only", action="append", help="a model; may be repeated")
    parser.add_argument(
        "--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS), help="of formats"
    )
    parser.add_argument(
        "--python", action="append", default=[], metavar="GROUP=PATH",
        help="interpreter of an environment with the packages of a group",
    )  # fmt: skip
    options = parser.parse_args()
    options.python = dict(each.partition("=")[::2] for each in options.python)
    for group in options.python:
        if group not in GROUPS:
            parser.error(f"--python {group}: there are the groups {', '.join(GROUPS)}")
    return options


def some_of(images: Path, number: int, folder: Path) -> Path:
    """Copy images of a folder into another one, which is returned; those that are there stay."""
    for path in find_images(images)[:number]:
        copy = folder / path.relative_to(images)
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return folder


def models(options: argparse.Namespace) -> dict[str, Callable[[], Path]]:
    """Return what gives the file of each model that was asked for, by the model's name."""
    found: dict[str, Callable[[], Path]] = {
        "osnet_x1_0": lambda: Path(options.x1_0),
        **({"osnet_x0_5_given": lambda: Path(options.x0_5)} if options.x0_5 else {}),
        "osnet_x0_5": partial(made, cut_in_half, options, "osnet_x0_5.pth"),
        "osnet_x0_25": lambda: Path(options.x0_25),
        **({"osnet_ain_given": lambda: Path(options.ain)} if options.ain else {}),
        "osnet_ain_x0_5": partial(made, random_checkpoint, options, "osnet_ain_x0_5.pth"),
        "resnet18": partial(made, random_checkpoint, options, "resnet18.pth"),
        "mobilenet_v2": partial(made, random_mobilenet, options, "mobilenet_v2.onnx"),
    }
    for name in options.only or ():
        if name not in found:
            raise PipelineError(f"--only {name}: there are {', '.join(found)}")
    return {name: give for name, give in found.items() if name in (options.only or found)}


def made(
    make: Callable[[Path, Tensor, Path], None], options: argparse.Namespace, name: str
) -> Path:
    """Return the file of a model that is made once, on some of the images."""
    path: Path = options.output / name
    if not path.is_file():
        logger.info("making %s", path)
        space = load_embedder(options.x1_0, input_size=SIZE).space
        (images,) = load_batches(space, halve(options.images).calibration[:MADE_ON], MADE_ON)
        draft = path.with_name(f"draft-{name}")
        make(options.x1_0, torch.from_numpy(images), draft)
        draft.replace(path)
    return path


def cut_in_half(source: Path, images: Tensor, path: Path) -> None:
    """Write x0.5, cut out of x1.0 by L2 norms; its weights are solved again, and not trained."""
    import reid_edge
    from prune.layer_widths import layer_widths

    model = load_model_file(source).module
    assert model is not None, "x1.0 is a checkpoint"
    widths = {
        name: width
        for name, width in layer_widths(build_model("osnet_x0_5")).items()
        if name != "classifier"
    }
    compact = reid_edge.prune(model, images[:1], widths=widths, images=images).model
    info = CheckpointInfo("osnet_x0_5", compact.classifier.out_features, 512, SIZE)  # type: ignore[union-attr, arg-type]
    save_checkpoint(path, compact, info)


def random_checkpoint(_: Path, images: Tensor, path: Path) -> None:
    """Write an architecture with random weights."""
    name = path.stem.removeprefix("draft-")
    torch.manual_seed(0)
    model = with_statistics(build_model(name), images)
    dims = int(model.embedding_dim)  # type: ignore[arg-type]
    save_checkpoint(path, model, CheckpointInfo(name, 1, dims, SIZE))


def random_mobilenet(_: Path, images: Tensor, path: Path) -> None:
    """Write torchvision's MobileNetV2 without a classifier, with random weights, as ONNX."""
    torch.manual_seed(0)
    layers = mobilenet_v2().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    model = with_statistics(nn.Sequential(*layers), images)
    save_onnx(model, torch.zeros(1, 3, *SIZE), path, {})


@torch.no_grad()
def with_statistics(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a model in evaluation mode, with the BatchNorm statistics of images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
            module.reset_running_stats()
    model.train()
    for batch in torch.split(images, 16):
        model(batch)
    return model.eval()


def export(python: str, model: Path, images: Path, folder: Path, formats: tuple[str, ...]) -> None:
    """Write the formats of a group by ``reid-edge export``; what it says is kept beside them.

    Raises:
        PipelineError: it wrote no ``parity.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = f"{SIZE[0]}x{SIZE[1]}"
    command = [
        *(python, "-m", "reid_edge", "export", str(model), "--images", str(images)),
        *("--output", str(folder), "--format", ",".join(formats), "--input-size", size),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    if not (folder / "parity.json").is_file():
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise PipelineError(f"{folder}: no formats are written: {said[-1]}")


def files_of(folder: Path, group: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of ``parity.json`` for the formats of a group."""
    for row in json.loads((folder / "parity.json").read_text())["files"]:
        if row["exporter"] in GROUPS[group]:
            yield row


def times(
    python: str, options: argparse.Namespace, model: str, file: Mapping[str, Any], folder: Path
) -> tuple[float, ...]:
    """Return the times of a file as shares of the float ONNX file's; empty if it is not timed."""
    reference = options.output / model / "onnx" / "float.onnx"
    path = folder / str(file["path"])
    if file["exporter"] in NOT_RUN or not file["path"] or not reference.is_file():
        return ()
    result = folder / f"{file['exporter']}-times.json"
    if path == reference:
        return (1.0,) * len(BATCHES)
    if not result.is_file():
        if options.no_times or options.table:
            return ()
        logger.info("%s: timing %s", model, path.name)
        command = [
            *(python, "-m", "reid_edge", "benchmark", str(reference), str(path), "--threads", "1"),
            *("--batches", ",".join(map(str, BATCHES)), "--rounds", str(options.rounds)),
            *("--json", str(result)),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            logger.warning("%s: cannot be timed: %s", path, done.stderr.strip()[-300:])
            return ()
    first, own = (
        [timing["median_ms"] for timing in each["timings"]]
        for each in json.loads(result.read_text())["files"]
    )
    return tuple(two / one for one, two in zip(first, own, strict=True))


def precision(
    python: str, options: argparse.Namespace, model: str, file: Mapping[str, Any], folder: Path
) -> float | None:
    """Return the mAP of a file by ``reid-edge evaluate``; None if it is not measured."""
    if options.data is None or model not in TRAINED:
        return None
    if file["exporter"] in NOT_RUN or not file["path"]:
        return None
    path, result = folder / str(file["path"]), folder / f"{file['exporter']}-metrics.json"
    if options.table and not result.is_file():
        return None
    return measured_precision(python, path, options.data, result)


def checkpoint_row(options: argparse.Namespace, name: str, model: Path) -> Row:
    """Return the row of a model itself, with its mAP."""
    result = options.output / f"{name}-metrics.json"
    size = model.stat().st_size
    file = {
        "exporter": "checkpoint", "path": str(model), "bytes": size, "problems": [], "parity": None,
    }  # fmt: skip
    if options.table and not result.is_file():
        return Row(name, file, ())
    return Row(name, file, (), measured_precision(sys.executable, model, options.data, result))


def measured_precision(python: str, path: Path, data: Path, result: Path) -> float | None:
    """Return the mAP of a model file on a data set; None if it cannot be measured.

    Args:
        python: interpreter with the packages of the file.
        path: of the file.
        data: with query and gallery.
        result: where the measurement is kept.
    """
    if not result.is_file():
        logger.info("measuring %s on %s", path, data)
        command = [
            *(python, "-m", "reid_edge", "evaluate", "--weights", str(path), "--data", str(data)),
            *("--input-size", f"{SIZE[0]}x{SIZE[1]}", "--json"),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            logger.warning("%s: cannot be measured: %s", path, done.stderr.strip()[-300:])
            return None
        result.write_text(done.stdout)
    return Evaluation.from_json(result.read_text()).ranking["cosine"].mean_average_precision


def print_table(rows: list[Row], path: Path) -> None:
    """Write the table in Markdown; mAP is a column where one is measured."""
    headings = [
        *("model", "format", "made", "lowest cosine", "mean cosine", "same nearest, %", "size"),
        *("time, batch 1", "batch 16"),
    ]
    with_precision = any(row.precision is not None for row in rows)
    if with_precision:
        headings.append("mAP, %")
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for row in rows:
        file, parity = row.file, row.file["parity"]
        problem, note = "; ".join(file["problems"]), file.get("note", "")
        if not file["path"]:
            made = f"no: {problem or note}"
        elif problem:
            made = "outside the limits" if parity else f"cannot be run: {problem}"
        else:
            made = f"yes; {note}" if note else "yes"
        measured = ("-", "-", "-")
        if parity:
            measured = (
                f"{parity['lowest_cosine']:.4f}",
                f"{parity['mean_cosine']:.4f}",
                f"{100 * parity['same_nearest']:.1f}",
            )
        size = f"{file['bytes'] / 1e6:.2f} MB" if file["bytes"] else "-"
        shares = [f"{share:.2f}" for share in row.times] or ["-"] * len(BATCHES)
        cells = [row.model, f"`{file['exporter']}`", made, *measured, size, *shares]
        if with_precision:
            cells.append("-" if row.precision is None else f"{100 * row.precision:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(run_guarded(partial(main, parse_options())))

"""What writes each kind of exported file."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from pipeline.calibration import describe_images, draw_calibration
from pipeline.context import StageContext
from pipeline.settings.export import FileName
from quantize.executorch import save_executorch, save_executorch_int8
from quantize.fold import folded_copy
from quantize.onnx import save_onnx
from quantize.onnx_int8 import int8_convolutions, quantize_onnx
from quantize.openvino import save_openvino
from quantize.torchscript import save_torchscript
from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_json
from reid_edge.models.checkpoint_info import CheckpointInfo
from reid_edge.models.other_formats import (
    TORCHREID_FILE,
    boxmot_name,
    check_shared,
    save_boxmot,
    save_torchreid,
)

FLOAT_ONNX = "float.onnx"
INT8_ONNX = "int8.onnx"
CALIBRATION_FILE = "calibration.json"
# Their readers build the model from its architecture's name; that of an ONNX file runs its graph.
SHARED_FILES: frozenset[FileName] = frozenset({"torchreid", "boxmot"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What files are made of.

    Attributes:
        context: of the stage.
        model: the float model, in evaluation mode.
        info: what its checkpoint says.
        threshold: its EER threshold, if one could be measured.
    """

    context: StageContext
    model: nn.Module
    info: CheckpointInfo
    threshold: float | None

    def metadata(self, **more: str) -> dict[str, str]:
        """Return what a file says of itself."""
        return {
            "architecture": self.info.architecture,
            "input_size": json.dumps(self.context.input_size),
            "colour_order": self.info.colour_order,
            "mean": json.dumps(self.info.mean),
            "std": json.dumps(self.info.std),
            "parent_hash": self.context.parent_hash,
            **more,
        }

    def float_metadata(self) -> dict[str, str]:
        """Return what a float file says of itself; its threshold is the model's."""
        threshold = {} if self.threshold is None else {"threshold": json.dumps(self.threshold)}
        return self.metadata(**threshold)


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: of the file, in the stage's folder.
        write: writes it.
        int8: whether it is.
        timed: whether the stage benchmark times it; the others are weights, or a copy.
        packages: that it needs beside the requirements, if any, named as pip names them; the first
            one's requirements list all of them.
    """

    name: Callable[[Source], str]
    write: Callable[[Source, Path], None]
    int8: bool = False
    timed: bool = True
    packages: tuple[str, ...] = ()


def check_packages(wanted: Sequence[FileName]) -> None:
    """Check that the packages that some kinds of files need are installed.

    Raises:
        PipelineError: one is not; the message names the setting and how to install it.
    """
    for name, kind in FILE_KINDS.items():
        missing = [package for package in kind.packages if find_spec(package) is None]
        if name in wanted and missing:
            raise PipelineError(
                f"export.files: {name} needs the package {' and '.join(missing)}: "
                f"pip install -r requirements-{kind.packages[0]}.txt"
            )


def check_wanted(wanted: Sequence[FileName], info: CheckpointInfo) -> None:
    """Check what can be before anything is written.

    Raises:
        ModelError: torchreid or BoxMOT cannot carry the model.
    """
    if SHARED_FILES & set(wanted):
        check_shared(info)


def check_published_widths(wanted: Sequence[FileName]) -> None:
    """Check that no file is wanted that cannot carry widths of one's own.

    Raises:
        PipelineError: one is.
    """
    shared = [name for name in wanted if name in SHARED_FILES]
    if shared:
        raise PipelineError(
            f"export.files: {shared[0]} carries published widths only, and prune.target gives "
            "others; give it an architecture (prune.target=osnet_x0_5), or leave the file out"
        )


def _write_torchscript(source: Source, path: Path) -> None:
    example = source.context.example()
    save_torchscript(
        folded_copy(source.model, example),
        example,
        path,
        source.float_metadata(),
        freeze=True,
    )


def _write_onnx(source: Source, path: Path) -> None:
    save_onnx(source.model, source.context.example(), path, source.float_metadata())


def _calibration(source: Source, path: Path) -> tuple[list[Tensor], dict[str, str]]:
    """Draw the images for the ranges of an int8 file; return batches of them, and its metadata.

    All int8 files of an export are calibrated on the same images.
    """
    context = source.context
    count = context.config.export.calibration_images
    drawn = draw_calibration(context, count, 0).calibration
    calibration = describe_images(drawn, context.data.root)
    write_json(context.folder / CALIBRATION_FILE, calibration)
    logger.info("export: %s is calibrated on %d images", path.name, len(drawn))
    return context.batches(drawn), source.metadata(calibration_digest=calibration["digest"])


def _write_onnx_int8(source: Source, path: Path) -> None:
    settings = source.context.config.export
    batches, metadata = _calibration(source, path)
    quantize_onnx(
        path.with_name(FLOAT_ONNX),
        batches,
        path,
        method=settings.calibration,
        percentile=settings.percentile,
        reduce_range=settings.reduce_range,
        metadata=metadata,
    )
    logger.info("export: %s: %d of %d convolutions are int8", path.name, *int8_convolutions(path))


def _write_openvino(_: Source, path: Path) -> None:
    save_openvino(path.with_name(FLOAT_ONNX), path)


def _write_openvino_int8(_: Source, path: Path) -> None:
    save_openvino(path.with_name(INT8_ONNX), path)


def _write_executorch(source: Source, path: Path) -> None:
    save_executorch(source.model, source.context.example(), path, source.float_metadata())


def _write_executorch_int8(source: Source, path: Path) -> None:
    batches, metadata = _calibration(source, path)
    save_executorch_int8(source.model, batches, path, metadata)


def _write_torchreid(source: Source, path: Path) -> None:
    save_torchreid(path, source.model, source.info)


def _write_boxmot(source: Source, path: Path) -> None:
    save_boxmot(path, source.model, source.info)


def _boxmot_name(source: Source) -> str:
    return boxmot_name(source.info.architecture, source.context.data.root.resolve().name)


_OPENVINO = ("openvino",)
_EXECUTORCH = ("executorch", "torchao")

# In the order in which they are made: some are made of others, see MADE_OF.
FILE_KINDS: Mapping[FileName, FileKind] = {
    "torchscript": FileKind(lambda _: "float.pt", _write_torchscript),
    "onnx": FileKind(lambda _: FLOAT_ONNX, _write_onnx),
    "onnx_int8": FileKind(lambda _: INT8_ONNX, _write_onnx_int8, int8=True),
    "openvino": FileKind(lambda _: "float.xml", _write_openvino, packages=_OPENVINO),
    "openvino_int8": FileKind(
        lambda _: "int8.xml", _write_openvino_int8, int8=True, packages=_OPENVINO
    ),
    "executorch": FileKind(lambda _: "float.pte", _write_executorch, packages=_EXECUTORCH),
    "executorch_int8": FileKind(
        lambda _: "int8.pte", _write_executorch_int8, int8=True, packages=_EXECUTORCH
    ),
    "torchreid": FileKind(lambda _: TORCHREID_FILE, _write_torchreid, timed=False),
    "boxmot": FileKind(lambda source: f"{_boxmot_name(source)}.pt", _write_boxmot, timed=False),
    "boxmot_onnx": FileKind(
        lambda source: f"{_boxmot_name(source)}.onnx", _write_onnx, timed=False
    ),
}

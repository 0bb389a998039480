"""What writes each kind of exported file."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from pipeline.calibration import describe_pictures, draw_calibration
from pipeline.config import FileName
from pipeline.context import StageContext
from quantize.fold import folded_copy
from quantize.onnx import save_onnx
from quantize.onnx_int8 import int8_convolutions, quantize_onnx
from quantize.torchscript import save_torchscript
from reid.files import write_json
from reid.models.checkpoint import CheckpointInfo

CALIBRATION_FILE = "calibration.json"

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
            "deviation": json.dumps(self.info.deviation),
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
        file: its name in the stage's folder.
        int8: whether it is.
        write: writes it.
    """

    file: str
    int8: bool
    write: Callable[[Source, Path], None]


def _write_torchscript(source: Source, path: Path) -> None:
    save_torchscript(
        folded_copy(source.model),
        source.context.example(),
        path,
        source.float_metadata(),
        freeze=True,
    )


def _write_onnx(source: Source, path: Path) -> None:
    save_onnx(source.model, source.context.example(), path, source.float_metadata())


def _write_onnx_int8(source: Source, path: Path) -> None:
    context, settings = source.context, source.context.config.export
    drawn = draw_calibration(context, settings.calibration_pictures, 0).calibration
    calibration = describe_pictures(drawn, context.data.root)
    write_json(context.folder / CALIBRATION_FILE, calibration)
    logger.info("export: %s is calibrated on %d pictures", path.name, len(drawn))
    quantize_onnx(
        path.with_name(FILE_KINDS["onnx"].file),
        context.batches(drawn),
        path,
        method=settings.calibration,
        percentile=settings.percentile,
        reduce_range=settings.reduce_range,
        metadata=source.metadata(calibration_digest=calibration["digest"]),
    )
    logger.info("export: %s: %d of %d convolutions are int8", path.name, *int8_convolutions(path))


# In the order in which they are made: int8 ONNX is made of the float one.
FILE_KINDS: Mapping[FileName, FileKind] = {
    "torchscript": FileKind("float.pt", False, _write_torchscript),
    "onnx": FileKind("float.onnx", False, _write_onnx),
    "onnx_int8": FileKind("int8.onnx", True, _write_onnx_int8),
}

"""The contract of a model file between its writer and its reader.

Every exported file carries the same metadata as strings: an ONNX file in its metadata, a
TorchScript file as the extra file ``metadata.json``, an OpenVINO file in the section ``reid_edge``
of its ``rt_info``, an ExecuTorch file as what its method ``metadata`` returns, a LiteRT file as its
metadata ``reid_edge``, NCNN and MNN files in a JSON file beside them. Numbers and lists are JSON
text. A ``Backend`` recognises a file by its content and loads it.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from reid_edge.core.archive import ARCHIVE_HEAD
from reid_edge.core.devices import Device
from reid_edge.core.errors import CheckpointError

if TYPE_CHECKING:  # settings are read without NumPy
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

Images: TypeAlias = "NDArray[np.float32]"
Embeddings: TypeAlias = "NDArray[np.float32]"
Embed: TypeAlias = Callable[["Images"], "Embeddings"]
Colours = tuple[float, float, float]

# Mean and standard deviation of RGB in [0, 1].
IMAGENET_MEAN: Colours = (0.485, 0.456, 0.406)
IMAGENET_STD: Colours = (0.229, 0.224, 0.225)

# What a file takes: normalised images in float, or pixels of 0 to 255, which it normalises itself.
FLOAT_INPUT = "float"
INPUT_FORMS = (FLOAT_INPUT, "uint8-rgb", "uint8-bgr")
# Names in an ONNX file that is exported here.
ONNX_INPUT = "input"
ONNX_OUTPUT = "reid_features"
# Where the metadata is: extra file of TorchScript, section of OpenVINO, method of ExecuTorch.
TORCHSCRIPT_METADATA = "metadata.json"
OPENVINO_METADATA = "reid_edge"
EXECUTORCH_METADATA = "metadata"
LITERT_METADATA = "reid_edge"
# An OpenVINO graph also has the SHA-256 of its weights, which are a file of their own.
OPENVINO_WEIGHTS_HASH = "weights_hash"
# And, if it is not to be computed in float32, the precision.
OPENVINO_PRECISION = "inference_precision"
# Images in a call of an MNN file that takes no other number; MNN itself notes 1 where it is free.
MNN_BATCH = "batch"
# The ONNX file in an archive for a device maker's compiler.
BUNDLED_MODEL = "model.onnx"
# Keys of earlier versions, and what they are called now.
FORMER_KEYS = {"deviation": "std"}


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file says of its model; every value has a default.

    Attributes:
        architecture: name, or empty if it is not noted.
        input_size: (height, width) in pixels, or None if it is not noted.
        colour_order: "RGB" or "BGR".
        mean: of each colour in [0, 1].
        std: of each colour in [0, 1].
        parent_hash: SHA-256 of the checkpoint that the file was made from, or empty.
        threshold: cosine similarity at the equal error rate of a float file, if it was measured.
        calibration_digest: of the images that an int8 file's ranges are from, or empty.
        engine: PyTorch's int8 engine that a TorchScript file was made for, or None.
        variant: "static" or "qat" for an int8 TorchScript file of the stage quantize, "weights" for
            a file whose weights alone are int8, or empty.
        input_form: one of ``INPUT_FORMS``; the colour order is that of the form, and mean and std
            are in the graph.
        notes: what else its maker noted, by key.
    """

    architecture: str = ""
    input_size: tuple[int, int] | None = None
    colour_order: str = "RGB"
    mean: Colours = IMAGENET_MEAN
    std: Colours = IMAGENET_STD
    parent_hash: str = ""
    threshold: float | None = None
    calibration_digest: str = ""
    engine: str | None = None
    variant: str = ""
    input_form: str = FLOAT_INPUT
    notes: Mapping[str, str] = field(default_factory=dict)

    def to_strings(self) -> dict[str, str]:
        """Return the metadata as it is written into a file; what is not known is left out."""
        known = {
            "input_size": None if self.input_size is None else json.dumps(self.input_size),
            "threshold": None if self.threshold is None else json.dumps(self.threshold),
            "calibration_digest": self.calibration_digest or None,
            "engine": self.engine,
            "variant": self.variant or None,
            "input_form": None if self.input_form == FLOAT_INPUT else self.input_form,
        }
        return {
            **self.notes,
            "architecture": self.architecture,
            "colour_order": self.colour_order,
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "parent_hash": self.parent_hash,
            **{key: value for key, value in known.items() if value is not None},
        }

    @classmethod
    def from_strings(cls, values: Mapping[str, Any], path: Path) -> Self:
        """Read the metadata of a file.

        Args:
            values: by key, each as it is or as JSON text; what is missing gets its default, and
                unknown keys become notes.
            path: the file, for messages.

        Raises:
            CheckpointError: a value is not what it should be, or a key is of an earlier version.
        """
        for former, key in FORMER_KEYS.items():
            if former in values:
                raise CheckpointError(
                    f"{path}: its metadata has {former!r}, which is called {key!r} now; export the "
                    "model again"
                )
        engine = values.get("engine")
        try:
            decoded = {
                key: json.loads(value) if isinstance(value, str) else value
                for key in ("input_size", "mean", "std", "threshold")
                if (value := values.get(key)) is not None
            }
            input_size = None
            if "input_size" in decoded:
                height, width = (int(side) for side in decoded["input_size"])
                input_size = (height, width)
            threshold = decoded.get("threshold")
            return cls(
                architecture=str(values.get("architecture", "")),
                input_size=input_size,
                colour_order=str(values.get("colour_order", "RGB")),
                mean=_colours(decoded.get("mean", IMAGENET_MEAN)),
                std=_colours(decoded.get("std", IMAGENET_STD)),
                parent_hash=str(values.get("parent_hash", "")),
                threshold=None if threshold is None else _finite(threshold),
                calibration_digest=str(values.get("calibration_digest", "")),
                engine=None if engine is None else str(engine),
                variant=str(values.get("variant", "")),
                input_form=str(values.get("input_form", FLOAT_INPUT)),
                notes={k: str(value) for k, value in values.items() if k not in _KEYS},
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path}: damaged metadata ({reason}); export the model again"
            ) from error


_KEYS = {entry.name for entry in fields(ModelMetadata)} - {"notes"}


def _colours(value: Any) -> Colours:
    red, green, blue = (_finite(number) for number in value)
    return red, green, blue


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


@dataclass(frozen=True)
class LoadedModel:
    """A model as its file gives it.

    Attributes:
        embed: from images (N, 3, H, W), float32 and normalised or as the metadata's ``input_form``
            says, to embeddings (N, D), of any length.
        metadata: what the file says of it.
        description: the kind of file, in a few words.
        weight_files: files beside it that hold weights, in an order that is the file's own.
        module: the PyTorch model of a checkpoint, in evaluation mode; None for other files.
    """

    embed: Embed
    metadata: ModelMetadata
    description: str
    weight_files: tuple[Path, ...] = ()
    module: nn.Module | None = None


@dataclass(frozen=True)
class LoadOptions:
    """How a model file is loaded; a backend ignores what it has no use for.

    Attributes:
        architecture: of a checkpoint that does not say which it is.
        device: where the model runs.
        engine: int8 engine of PyTorch, instead of the one that a TorchScript file was made for.
        threads: of a call; None: as many as PyTorch uses where it is loaded, or all cores.
        weights_key: of a checkpoint of another program that holds several models: which to take.
    """

    architecture: str | None = None
    device: Device = "cpu"
    engine: str | None = None
    threads: int | None = None
    weights_key: str | None = None


@dataclass(frozen=True)
class Backend:
    """What runs model files of one kind.

    Its functions are functions of a module: the benchmark hands them to other processes.

    Attributes:
        name: in the registry and in reports.
        description: what such a file is called, for the message about a file of no known kind.
        recognise: whether a file is of this kind, by its path and its first 256 bytes.
        load: opens a file.
        meant_for: the machines or uses that such files are for, in a few words.
        packages: that are needed besides the requirements, as they are imported.
        extra: that installs these packages.
        parts: suffixes of the files that belong to a model file, by its own suffix.
        on_gpu: whether ``device`` may be a GPU.
    """

    name: str
    description: str
    recognise: Callable[[Path, bytes], bool]
    load: Callable[[Path, LoadOptions], LoadedModel]
    meant_for: str = "any"
    packages: tuple[str, ...] = ()
    extra: str = ""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    on_gpu: bool = False


def archive_names(path: Path, head: bytes) -> list[str]:
    """Return the names in a ZIP archive; none for any other file.

    Raises:
        CheckpointError: it begins like an archive, and is cut short or damaged.
    """
    if head[:4] != ARCHIVE_HEAD:
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception as error:  # damage shows as almost any exception
        raise CheckpointError(f"{path}: cut short or damaged; copy it again") from error


def boxmot_name(architecture: str, data: str) -> str:
    """Return a file's name as BoxMOT reads it: architecture and data set, without a suffix."""
    cleaned = "".join(letter for letter in data.lower() if letter.isalnum())
    return f"{architecture}_{cleaned or 'own'}"

"""What writes a file format: a declaration, and what it is given to write from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reid_edge.core.errors import QuantizeError
from reid_edge.core.model_file import Backend, ModelMetadata
from reid_edge.core.packages import how_to_install, missing_packages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import BaseModel
    from torch import Tensor, nn


NEEDS_MODEL = "needs a checkpoint; it cannot be made of an ONNX file"
Batching = Literal["any", "fixed", "both"]


@dataclass(frozen=True)
class CalibrationBatches:
    """Images for the ranges of int8 files.

    Attributes:
        batches: (N, 3, H, W) each, normalised.
        digest: of the images, for the metadata.
        files: the images, in the same order; empty where there are tensors alone.
    """

    batches: Sequence[Tensor]
    digest: str = ""
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class PixelInput:
    """Pixels of 0 to 255, uint8, as the input of a file in place of normalised images.

    Attributes:
        mean: of each colour in [0, 1], in the order of the file's input.
        std: of each colour, likewise.
        reverse: whether the network takes the colours in the other order.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    reverse: bool


@dataclass(frozen=True)
class Projection:
    """A linear map from embeddings of unit length to smaller ones.

    Attributes:
        weight: float32 (dims, D).
        bias: float32 (dims,), or None; without it, embeddings of any length keep their direction.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class ExportSource:
    """What files are made from.

    Attributes:
        model: the float model, in evaluation mode on the CPU; None where a file of another program
            is exported. ``module`` gives it or says that there is none.
        example: zeros of the input's shape (1, 3, H, W).
        metadata: of a float file; the threshold in it is the model's.
        draw_calibration: gives the images for int8 files; called by exporters of int8 files alone.
        files: files of this export that are there already, by the name of their exporter.
        dataset: name of the data that the model was trained on, or empty.
        accuracy: measures of the model by name, such as "rank1".
        settings: of the exporter that is called, an instance of its ``settings``, or None.
        onnx_file: a float ONNX file in place of the model; its input and its output have any
            names, its embeddings any length. The exporter ``onnx`` makes its file of it.
        batch: images in a call of the file that is to be written; None: any number. A file that
            ``file`` returns has the same batch, or any.
        siblings: files of the same exporter for other batches, by batch.
        opset: of ONNX files; None: the lowest that works.
        pixels: what files take in place of normalised images; None: those. The model takes
            normalised images in both cases; calibration images are as the file takes them.
        projection: of the embeddings; the model has it in itself, ``onnx_file`` has not.
    """

    model: nn.Module | None
    example: Tensor
    metadata: ModelMetadata
    draw_calibration: Callable[[], CalibrationBatches]
    files: Mapping[str, Path] = field(default_factory=dict)
    dataset: str = ""
    accuracy: Mapping[str, float] = field(default_factory=dict)
    settings: Any = None
    onnx_file: Path | None = None
    batch: int | None = None
    siblings: Mapping[int, Path] = field(default_factory=dict)
    opset: int | None = None
    pixels: PixelInput | None = None
    projection: Projection | None = None

    @property
    def module(self) -> nn.Module:
        """Return the float model.

        Raises:
            QuantizeError: there is none, because a file of another program is exported.
        """
        if self.model is None:
            raise QuantizeError(NEEDS_MODEL)
        return self.model

    def file(self, exporter: str) -> Path:
        """Return the file of another exporter that this export has made.

        Raises:
            QuantizeError: it has made none, or the file does not agree with the model.
        """
        if exporter not in self.files:
            raise QuantizeError(f"there is no file of the exporter {exporter} to make it from")
        return self.files[exporter]

    def int8_metadata(self, calibration: CalibrationBatches) -> ModelMetadata:
        """Return the metadata of an int8 file; it has no threshold, that of int8 is another."""
        return replace(self.metadata, threshold=None, calibration_digest=calibration.digest)


class Described(Protocol):
    """What a checkpoint says of its model, as far as a format may be unable to carry it."""

    @property
    def architecture(self) -> str:
        """Name in the registry."""

    @property
    def embedding_dim(self) -> int:
        """Size of the embedding."""

    @property
    def widths(self) -> Mapping[str, Sequence[int]]:
        """[input, output] channels of the layers that are not the stock ones."""


@dataclass(frozen=True)
class Exporter:
    """A file format to export to.

    Attributes:
        name: in settings and reports.
        description: one line for people.
        file: name of the file, or what gives it.
        write: writes the file to a path; raises a ``ReidError`` if it cannot.
        made_of: names of the exporters whose files this one is made of.
        int8: whether the file is int8; then other limits of parity hold.
        timed: whether it is benchmarked.
        meant_for: the machine that the file is for, in a few words.
        packages: that are needed besides the requirements, as they are imported.
        extra: that installs these packages.
        settings: model of the exporter's own settings, or None.
        carries_widths: whether a pruned model with widths of its own can be written; where readers
            build the model by the name of its architecture, it cannot.
        check: raises a ``ReidError`` if a model cannot be written, before anything is.
        backend: that runs the file, where it is not registered.
        needs_model: whether it is made of the PyTorch model. Others are made of files of other
            exporters alone, and so of an ONNX file of another program too.
        batching: "any": a file takes any batch, and ``ExportSource.batch`` is None; "fixed": a file
            holds one batch, which is 1 where none is asked for; "both": as it is asked for.
        takes_pixels: whether a file can normalise its images itself, see ``ExportSource.pixels``.
        calibrated: whether ``draw_calibration`` is called though the file is not int8.
        own_process: whether ``write`` and the reader may crash or hang: then each runs in a process
            of its own. ``write`` is a function of a module, and the settings can be pickled.
        time_limit_s: seconds that such a process may take.
        unchecked: why the file cannot be run on any machine of this kind, so that its embeddings
            are not compared; empty where a backend runs it.
        folder_suffix: a folder is written beside the file; this is what its name has behind the
            file's stem, such as "_c" for ``model_c`` beside ``model.so``. Empty: there is none.
        owns_folder: whether this exporter has written such a folder, with nothing else in it.
            Others are neither replaced nor renamed. None: every folder of that name is its own.
    """

    name: str
    description: str
    file: str | Callable[[ExportSource], str]
    write: Callable[[ExportSource, Path], None]
    made_of: tuple[str, ...] = ()
    int8: bool = False
    timed: bool = True
    meant_for: str = "any"
    packages: tuple[str, ...] = ()
    extra: str = ""
    settings: type[BaseModel] | None = None
    carries_widths: bool = True
    check: Callable[[Described], None] | None = None
    backend: Backend | None = None
    needs_model: bool = True
    batching: Batching = "any"
    takes_pixels: bool = False
    calibrated: bool = False
    own_process: bool = False
    time_limit_s: float = 900
    unchecked: str = ""
    folder_suffix: str = ""
    owns_folder: Callable[[Path], bool] | None = None

    def file_name(self, source: ExportSource) -> str:
        """Return the name of the file; that of a fixed batch is in it, as in ``float_b4.onnx``."""
        name = self.file if isinstance(self.file, str) else self.file(source)
        if source.batch is None:
            return name
        stem, dot, suffix = name.partition(".")
        return f"{stem}_b{source.batch}{dot}{suffix}"


def check_packages(exporters: Iterable[Exporter]) -> None:
    """Check that the packages that file formats need are installed.

    Raises:
        QuantizeError: one is not; the message says how to install it.
    """
    for exporter in exporters:
        missing = missing_packages(exporter.packages)
        if missing:
            raise QuantizeError(
                f"{exporter.name} needs the package {' and '.join(missing)}: "
                f"{how_to_install(exporter.extra)}"
            )


def with_what_they_are_made_of(
    names: Iterable[str], load: Callable[[str], Exporter]
) -> dict[str, Exporter]:
    """Return exporters by name, and those whose files they are made of.

    Args:
        names: of the exporters.
        load: gives the declaration of a name.
    """
    found: dict[str, Exporter] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = load(name)
            waiting += found[name].made_of
    return found


def in_order(exporters: Iterable[Exporter]) -> list[Exporter]:
    """Return exporters so that each comes after those that it is made of.

    Raises:
        QuantizeError: one is made of a file that is not among them, or of itself.
    """
    waiting = {exporter.name: exporter for exporter in exporters}
    for exporter in waiting.values():
        for name in exporter.made_of:
            if name not in waiting:
                raise QuantizeError(
                    f"{exporter.name} is made of {name}: put {name} in files as well"
                )
    ordered: dict[str, Exporter] = {}
    while waiting:
        ready = [one for one in waiting.values() if set(one.made_of) <= ordered.keys()]
        if not ready:
            raise QuantizeError(f"{', '.join(waiting)}: each is made of the other")
        ordered[ready[0].name] = waiting.pop(ready[0].name)
    return list(ordered.values())

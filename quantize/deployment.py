"""Quantize and export a model with one call each, without a settings file or a run."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from quantize.exporters import EXPORTERS
from reid_edge.core.backends import load_model_file, model_file_parts
from reid_edge.core.errors import NotBuiltError, QuantizeError, ReidError
from reid_edge.core.exporter import (
    CalibrationBatches,
    Exporter,
    ExportSource,
    check_packages,
    in_order,
)
from reid_edge.core.int8_engine import Engine
from reid_edge.core.model_file import ModelMetadata

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from quantize.calibrate import ObserverName
    from quantize.measurements import Agreement, Parity, QuantizationReport
    from quantize.parity import ParityLimits

BATCH = 64
DEFAULT_FORMATS = ("torchscript", "onnx", "onnx_int8")


@dataclass(frozen=True)
class Quantized:
    """An int8 model and its measurements.

    Attributes:
        model: float in and float out, on the CPU; run it inside ``quantized_engine(engine)``.
        engine: that it was made for.
        report: the layers that are int8.
        agreement: of its embeddings with the float model's, on the images that were given.
    """

    model: fx.GraphModule
    engine: Engine
    report: QuantizationReport
    agreement: Agreement

    def __str__(self) -> str:
        return (
            f"{self.report}\n"
            f"engine                {self.engine}\n"
            f"mean 1 - cosine       {self.agreement.mean_cosine_error:.5f} on "
            f"{self.agreement.images} images"
        )


def quantize(
    model: nn.Module,
    images: Tensor | Iterable[Tensor],
    *,
    engine: Engine = "qnnpack",
    per_channel: bool = True,
    observer: ObserverName = "histogram",
    float_layers: Sequence[str] = (),
    bias_correction: bool = True,
) -> Quantized:
    """Make an int8 model of a float model and images, by static quantization.

    Args:
        model: any ``torch.fx`` traceable module whose output is embeddings (N, D); it is quantized
            as it is in evaluation mode, and left as it is.
        images: (N, 3, H, W), or batches of them, prepared exactly as for inference; a few hundred
            are enough.
        engine: that will run the int8 model: "qnnpack" on ARM, "x86" or "onednn" on PCs.
        per_channel: one weight scale per output channel instead of one per layer.
        observer: how the range of an activation is found, see ``quantize.calibrate.Scheme``.
        float_layers: names of modules to leave in float, with all modules inside them.
        bias_correction: take back the mean error of every channel.

    Raises:
        QuantizeError: no images, or not tensors of finite numbers; an unknown observer or layer, or
            an engine that is not supported here; a model that cannot be traced.
    """
    from quantize.agreement import Reference
    from quantize.calibrate import Scheme
    from quantize.count import quantization_report
    from quantize.static import quantize_static

    batches = _batches(images)
    scheme = Scheme(engine, per_channel, observer, tuple(float_layers))
    int8 = quantize_static(model, batches, scheme, bias_correction=bias_correction)
    return Quantized(
        int8,
        engine,
        quantization_report(model, int8, float_layers=scheme.float_layers),
        Reference(model, batches).agreement(int8, engine),
    )


@dataclass(frozen=True)
class ComparedFile:
    """A file that was written, compared with the model.

    Attributes:
        exporter: name of the format.
        path: of the file.
        bytes: of all its parts.
        int8: whether it is int8.
        parity: the comparison; None where the file could not be loaded or run.
        problems: the limits that the file exceeds, a few words each; empty if there are none.
        note: why the file was not compared, where no machine of this kind runs it; else empty.
    """

    exporter: str
    path: Path
    bytes: int
    int8: bool
    parity: Parity | None
    problems: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class ExportResult:
    """The files of an export.

    Attributes:
        files: in the order in which they were made.
    """

    files: tuple[ComparedFile, ...]

    @property
    def problems(self) -> list[str]:
        """The limits that files exceed; empty if all files agree with the model."""
        return [f"{file.path.name}: {text}" for file in self.files for text in file.problems]

    def __str__(self) -> str:
        rows = [("file", "size", "cosine", "lowest", "batches", "fits")]
        for file in self.files:
            parity = file.parity
            measured = (
                ("-", "-", "-")
                if parity is None
                else (
                    f"{parity.mean_cosine:.4f}",
                    f"{parity.lowest_cosine:.4f}",
                    f"{parity.batch_difference:.0e}",
                )
            )
            fits = "; ".join(file.problems) or file.note or "yes"
            rows.append((file.path.name, f"{file.bytes / 1e6:.2f} MB", *measured, fits))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def export(
    model: nn.Module,
    images: Tensor | Iterable[Tensor],
    folder: Path | str,
    formats: Sequence[str | Exporter] = DEFAULT_FORMATS,
    *,
    metadata: ModelMetadata | None = None,
    float_limits: ParityLimits | None = None,
    int8_limits: ParityLimits | None = None,
) -> ExportResult:
    """Write a model as files, and compare each file with the model.

    Each file is loaded as its users load it, and its embeddings of the images are compared with the
    model's. A file that does not agree stays where it is; its problems are in the result.

    Args:
        model: a float model whose output is embeddings (N, D); it is left as it is.
        images: (N, 3, H, W), or batches of them, prepared exactly as for inference. int8 files are
            calibrated on them; all files are compared on them.
        folder: where to write; it is made if it is not there. Existing files are replaced.
        formats: names of registered exporters, or exporters. If a format is made from another one,
            that one has to be among them.
        metadata: that the files say of the model; the input size is that of the images.
        float_limits: limits for float files; by default a cosine of 0.999.
        int8_limits: limits for int8 files; by default a mean cosine of 0.98 and a lowest cosine of
            0.9.

    Raises:
        QuantizeError: an unknown format, or one whose package is not installed or that is made of
            one that is not asked for; no images; a model that cannot be traced or written.
        ReidError: a format cannot carry the model.
    """
    import torch

    from quantize.agreement import Reference
    from quantize.parity import ParityLimits

    chosen = in_order(
        EXPORTERS.load(choice) if isinstance(choice, str) else choice for choice in formats
    )
    check_packages(chosen)
    batches = _batches(images)
    evaluated = copy.deepcopy(model).cpu().eval()
    reference = Reference(evaluated, batches).embeddings
    size = batches[0].shape[2], batches[0].shape[3]
    digest = sha256()
    for batch in batches:
        digest.update(batch.contiguous().numpy().tobytes())
    source = ExportSource(
        evaluated,
        torch.zeros(1, 3, *size),
        replace(metadata or ModelMetadata(), input_size=size),
        lambda: CalibrationBatches(batches, digest.hexdigest()),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    float_limits = float_limits or ParityLimits(mean_cosine=0.999, lowest_cosine=0.999)
    int8_limits = int8_limits or ParityLimits(mean_cosine=0.98, lowest_cosine=0.9)
    made: dict[str, Path] = {}
    files = []
    for exporter in chosen:
        own = exporter.settings() if exporter.settings else None
        fixed = 1 if exporter.batching == "fixed" else None
        given = replace(source, files=dict(made), settings=own, batch=fixed)
        path = folder / exporter.file_name(given)
        try:
            exporter.write(given, path)
        except NotBuiltError as notice:
            row = ComparedFile(exporter.name, path, 0, exporter.int8, None, (str(notice),))
            files.append(row)
            continue
        limits = int8_limits if exporter.int8 else float_limits
        files.append(_check(exporter, path, reference, batches, limits))
        made[exporter.name] = path
    return ExportResult(tuple(files))


def _check(
    exporter: Exporter,
    path: Path,
    reference: Tensor,
    batches: Sequence[Tensor],
    limits: ParityLimits,
) -> ComparedFile:
    """Load a file and compare its embeddings (N, D) with the model's."""
    import torch

    from quantize.parity import batch_difference, compare, violations

    size = sum(part.stat().st_size for part in model_file_parts(path))
    if exporter.unchecked:
        note = f"not checked: {exporter.unchecked}"
        return ComparedFile(exporter.name, path, size, exporter.int8, None, (), note)
    parity, problems = None, []
    try:
        loaded = load_model_file(path, backend=exporter.backend)

        def embed(images: Tensor) -> Tensor:
            return torch.from_numpy(loaded.embed(images.numpy()))

        found = torch.cat([embed(batch) for batch in batches])
        parity = compare(
            _halves(reference),
            _halves(found),
            batch_difference=batch_difference(embed, torch.cat(list(batches[:1]))),
        )
        problems = violations(parity, limits)
    except ReidError as error:
        problems = [str(error)]
    return ComparedFile(exporter.name, path, size, exporter.int8, parity, tuple(problems))


def _halves(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings as those of queries and of a gallery."""
    half = (len(embeddings) + 1) // 2
    return embeddings[:half], embeddings[half:] if len(embeddings) > 1 else embeddings


def _batches(images: Tensor | Iterable[Tensor]) -> list[Tensor]:
    import torch

    batches = list(torch.split(images, BATCH)) if isinstance(images, torch.Tensor) else list(images)
    if not batches:
        raise QuantizeError("no images: int8 ranges and files cannot be checked without them")
    for batch in batches:
        if not isinstance(batch, torch.Tensor) or batch.dim() != 4 or not len(batch):
            found = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
            raise QuantizeError(f"images are {found}, expected tensors (N, 3, H, W)")
    return [batch.cpu() for batch in batches]

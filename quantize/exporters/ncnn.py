"""NCNN files, made of ONNX files by pnnx: ``float.ncnn.param``, the graph, and its ``.bin``.

pnnx does not translate the division by a length that is kept above a bound (``Clip``), so that the
graph ends in a division that is written out (``quantize.exporters.onnx_tail``).
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from quantize.exporters.onnx_edits import network_inputs, set_batch
from quantize.exporters.onnx_float import read_onnx, read_onnx_metadata
from quantize.exporters.onnx_tail import cut_unit_length, divide_by_length
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole
from reid_edge.core.packages import import_package
from reid_edge.core.sidecar import write_sidecar


def save_ncnn(onnx_file: Path, path: Path, *, half: bool = False) -> None:
    """Write a float ONNX file for NCNN, which takes one image at a time.

    Args:
        onnx_file: float; its input has a fixed size.
        path: where to write the graph, ``.param``; the weights go beside it, ``.bin``, and the
            metadata, ``.json``. Existing files are replaced, the graph last.
        half: store weights in half precision.

    Raises:
        QuantizeError: pnnx is not installed or cannot convert the file, an operator is left that
            NCNN does not have, or nothing can be written.
    """
    import onnx

    pnnx, ncnn = (
        import_package(name, extra="ncnn", needed_by=path, error=QuantizeError)
        for name in ("pnnx", "ncnn")
    )
    model = read_onnx(onnx_file)
    set_batch(model, 1)
    (images,) = network_inputs(model.graph)
    shape = [side.dim_value for side in images.type.tensor_type.shape.dim]
    if not all(shape):
        raise QuantizeError(f"{onnx_file}: its input has no fixed size; export it with one")
    if cut_unit_length(model):
        divide_by_length(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save_model(model, folder / "model.onnx")
        sides = ",".join(map(str, shape))
        command = [pnnx.EXEC_PATH, str(folder / "model.onnx"), f"inputshape=[{sides}]f32"]
        done = subprocess.run(
            [*command, f"fp16={int(half)}"], cwd=folder, capture_output=True, text=True, check=False
        )
        graph, weights = folder / "model.ncnn.param", folder / "model.ncnn.bin"
        if done.returncode or not (graph.is_file() and weights.is_file()):
            last = " ".join((done.stderr or done.stdout).strip().rpartition("\n")[2].split())
            raise QuantizeError(
                f"pnnx cannot convert {onnx_file} (exit code {done.returncode}): {last[:200]}"
            )
        _check_operators(graph.read_text(), ncnn, onnx_file)
        for made, target in ((weights, path.with_suffix(".bin")), (graph, path)):
            with written_whole(target, QuantizeError) as file:
                file.write(made.read_bytes())
    write_sidecar(
        path.with_suffix(".json"),
        (path, path.with_suffix(".bin")),
        read_onnx_metadata(onnx_file),
    )


def _check_operators(graph: str, ncnn: Any, onnx_file: Path) -> None:
    """Check that NCNN has every operator: pnnx writes those that it does not translate as is."""
    kinds = {line.split()[0] for line in graph.splitlines()[2:] if line.strip()}
    foreign = sorted(kind for kind in kinds if ncnn.layer_to_index(kind) < 0)
    if foreign:
        raise QuantizeError(f"{onnx_file}: pnnx does not translate {', '.join(foreign)}")


def write_file(source: ExportSource, path: Path) -> None:
    """Write the files of NCNN out of the float ONNX file."""
    save_ncnn(source.file("onnx"), path)


NCNN = Exporter(
    "ncnn",
    "NCNN, made of the float ONNX file, one image at a time",
    "float.ncnn.param",
    write_file,
    made_of=("onnx",),
    meant_for="phones, ARM boards (NCNN)",
    packages=("pnnx", "ncnn"),
    extra="ncnn",
    needs_model=False,
    batching="any",
    own_process=True,
)

"""An exporter: the float ONNX file with a batch of one image."""

from pathlib import Path

from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter, ExportSource
from reid_edge.core.io import written_whole


def write_fixed_batch(source: ExportSource, path: Path) -> None:
    """Write the float ONNX file of this export again, with its batch dimension fixed to one."""
    import onnx

    model = onnx.load(source.file("onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    with written_whole(path, QuantizeError) as file:
        file.write(model.SerializeToString())


FIXED_BATCH = Exporter(
    name="onnx_fixed_batch",
    description="the float ONNX file with a batch of one image",
    file="float_batch1.onnx",
    write=write_fixed_batch,
    made_of=("onnx",),
    meant_for="runtimes without dynamic shapes",
)

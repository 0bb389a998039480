"""File formats that a model can be exported to: one format a file, by name."""

from reid_edge.core.errors import QuantizeError
from reid_edge.core.exporter import Exporter
from reid_edge.core.registry import Registry

EXPORTERS: Registry[Exporter] = Registry(
    "file format",
    "reid_edge.exporters",
    {
        "torchscript": "quantize.exporters.torchscript:TORCHSCRIPT",
        "torchscript_int8": "quantize.exporters.torchscript:TORCHSCRIPT_INT8",
        "onnx": "quantize.exporters.onnx_float:ONNX",
        "onnx_int8": "quantize.exporters.onnx_int8:ONNX_INT8",
        "openvino": "quantize.exporters.openvino:OPENVINO",
        "openvino_bf16": "quantize.exporters.openvino:OPENVINO_BF16",
        "openvino_int8": "quantize.exporters.openvino:OPENVINO_INT8",
        "c": "quantize.exporters.c_source:C",
        "executorch": "quantize.exporters.executorch:EXECUTORCH",
        "executorch_int8": "quantize.exporters.executorch:EXECUTORCH_INT8",
        "onnx_float16": "quantize.exporters.onnx_float16:ONNX_FLOAT16",
        "tensorrt_int8": "quantize.exporters.tensorrt:TENSORRT_INT8",
        "ncnn": "quantize.exporters.ncnn:NCNN",
        "mnn": "quantize.exporters.mnn:MNN_FLOAT",
        "mnn_int8": "quantize.exporters.mnn:MNN_INT8",
        "litert": "quantize.exporters.litert:LITERT",
        "litert_int8": "quantize.exporters.litert:LITERT_INT8",
        "coreml": "quantize.exporters.coreml:COREML",
        "rknn": "quantize.exporters.rknn:RKNN",
        "hailo": "quantize.exporters.hailo:HAILO",
        "torchreid": "reid_edge.models.torchreid_files:TORCHREID",
        "boxmot": "reid_edge.models.boxmot_files:BOXMOT",
        "boxmot_onnx": "quantize.exporters.onnx_float:BOXMOT_ONNX",
    },
    error=QuantizeError,
)

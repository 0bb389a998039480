"""Input of Rockchip's RKNN Toolkit 2: a static float ONNX file, calibration images, their list.

The ONNX file is checked here with ONNX Runtime. The script converts it for a processor, with the
normalisation inside, so that the device takes images of 0 to 255.
"""

from pathlib import Path

from quantize.compiler_bundle import (
    as_png,
    calibration_images,
    normalisation,
    static_model,
    write_bundle,
)
from reid_edge.core.exporter import Exporter, ExportSource

_CONVERT = '''"""Convert model.onnx for a Rockchip processor; needs rknn-toolkit2.

    python convert.py rk3588 [--float]
"""

import sys

from rknn.api import RKNN

processor = sys.argv[1] if len(sys.argv) > 1 else "rk3588"
rknn = RKNN()
rknn.config(
    mean_values=[{mean}],
    std_values=[{std}],
    quant_img_RGB2BGR=False,  # the images are in the model's order of colours
    quantized_method="channel",
    target_platform=processor,
)
assert rknn.load_onnx("model.onnx") == 0
assert rknn.build(do_quantization="--float" not in sys.argv, dataset="dataset.txt") == 0
assert rknn.export_rknn("model.rknn") == 0
'''


def write_file(source: ExportSource, path: Path) -> None:
    """Write the archive out of the float ONNX file."""
    calibration = source.draw_calibration()
    metadata = source.int8_metadata(calibration)
    model = static_model(source.file("onnx"), source.batch or 1, metadata.to_strings())
    mean, std = normalisation(metadata)
    images = {
        f"images/{number:05}.png": as_png(image)
        for number, image in enumerate(calibration_images(calibration.batches, metadata))
    }
    files = {
        **images,
        "dataset.txt": "".join(f"{name}\n" for name in images).encode(),
        "convert.py": _CONVERT.format(mean=mean, std=std).encode(),
    }
    write_bundle(path, model, files)


RKNN = Exporter(
    "rknn",
    "input of RKNN Toolkit 2: static ONNX, calibration images, script",
    "rknn.zip",
    write_file,
    made_of=("onnx",),
    timed=False,
    meant_for="Rockchip NPUs (RKNN Toolkit 2)",
    needs_model=False,
    batching="fixed",
    calibrated=True,
)

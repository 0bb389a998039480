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
from reid_edge.core.model_file import ONNX_INPUT

_CONVERT = '''"""Convert model.onnx for a Rockchip processor; needs rknn-toolkit2.

    python convert.py rk3588 [--float] [--check]

--check runs it in the toolkit's simulator, and compares embeddings of 32 images with those of
model.onnx; int8 ranges are from these images, too.
"""

import sys

from rknn.api import RKNN

MEAN, STD = {mean}, {std}
processor = sys.argv[1] if len(sys.argv) > 1 else "rk3588"
rknn = RKNN()
rknn.config(
    mean_values=[MEAN],
    std_values=[STD],
    quant_img_RGB2BGR=False,  # the images are in the model's order of colours
    quantized_method="channel",
    target_platform=processor,
)
assert rknn.load_onnx("model.onnx") == 0
assert rknn.build(do_quantization="--float" not in sys.argv, dataset="dataset.txt") == 0
assert rknn.export_rknn("model.rknn") == 0
if "--check" in sys.argv:
    import cv2
    import numpy as np
    import onnxruntime

    assert rknn.init_runtime() == 0
    session = onnxruntime.InferenceSession("model.onnx")
    batch = session.get_inputs()[0].shape[0]
    names = (open("dataset.txt").read().split() * batch)[: max(32 // batch, 1) * batch]
    cosines = []
    for start in range(0, len(names), batch):
        images = np.stack([cv2.imread(name)[..., ::-1] for name in names[start : start + batch]])
        given = ((images - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2)
        (expected,) = session.run(None, {{"{input}": given}})
        (found,) = rknn.inference(inputs=[images], data_format=["nhwc"])
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines.extend((found * expected).sum(axis=1) / lengths)
    print(f"cosine to model.onnx: lowest {{min(cosines):.4f}}, mean {{np.mean(cosines):.4f}}")
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
        "convert.py": _CONVERT.format(mean=mean, std=std, input=ONNX_INPUT).encode(),
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

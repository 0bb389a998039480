"""All targets, one a file."""

from tests.fuzz.target import Target
from tests.fuzz.targets import (
    archives,
    checkpoints,
    csv_lists,
    image_names,
    images,
    indexes,
    mat_files,
    mot_folders,
    onnx_files,
    overrides,
    settings_files,
    thresholds,
    torchscript_files,
)

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET
    for module in (
        settings_files, overrides, csv_lists, image_names, images, archives, mat_files, checkpoints,
        onnx_files, torchscript_files, indexes, thresholds, mot_folders,
    )
}  # fmt: skip

"""ResNet and OSNet-AIN become int8 as a whole, as OSNet does."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from quantize.calibrate import Scheme
from quantize.count import quantization_report
from quantize.static import quantize_static
from reid_edge.core.int8_engine import quantized_engine, supported_engines
from reid_edge.models import build_model

pytestmark = [
    pytest.mark.medium,
    pytest.mark.skipif("qnnpack" not in supported_engines(), reason="needs QNNPACK"),
]


@pytest.mark.parametrize(
    ("name", "embedding_dim", "convolutions", "linear_layers", "in_float"),
    [
        ("resnet18", 64, 20, 1, ["global_avgpool"]),
        ("resnet18_bnneck", 64, 20, 1, ["global_avgpool"]),
        ("resnet18_fastreid", 64, 20, 1, ["global_avgpool"]),
        # Pooled features have no layer in front of the neck that it could be folded into.
        ("resnet18_bnneck", None, 20, 0, ["bottleneck"]),
        ("osnet_ain_x0_5", None, 151, 1, ["global_avgpool"]),
        ("osnet_x0_25_bnneck", None, 151, 0, ["bottleneck"]),
    ],
)
def test_all_layers_are_int8_or_listed(
    name: str,
    embedding_dim: int | None,
    convolutions: int,
    linear_layers: int,
    in_float: list[str],
    images: Tensor,
) -> None:
    torch.manual_seed(0)
    calibration = images[:8]
    model = build_model(name, embedding_dim=embedding_dim).train()
    with torch.no_grad():
        for _ in range(3):
            model(calibration)
    model.eval()
    int8 = quantize_static(model, [calibration], Scheme(observer="minmax"))
    report = quantization_report(model, int8)
    assert (report.int8_convolutions, report.convolutions) == (convolutions, convolutions)
    assert (report.int8_linear_layers, report.linear_layers) == (linear_layers, linear_layers)
    assert [layer.name for layer in report.left_in_float] == in_float
    with quantized_engine("qnnpack"), torch.inference_mode():
        assert F.cosine_similarity(model(calibration), int8(calibration)).min() > 0.98

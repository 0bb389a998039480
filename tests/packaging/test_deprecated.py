"""What is deprecated upstream is still there, see docs/reference/deprecated.md."""

import inspect
import pkgutil
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "deprecated.md"
USED = {
    "torch-ao-quantization": (
        "torch.ao.quantization.quantize_fx.prepare_fx",
        "torch.ao.quantization.quantize_fx.prepare_qat_fx",
        "torch.ao.quantization.quantize_fx.convert_fx",
        "torch.ao.quantization.backend_config.get_qnnpack_backend_config",
    ),
    "torchscript": (
        "torch.jit.trace", "torch.jit.freeze", "torch.jit.save", "torch.jit.load",
        # Not public: `prune/nni_backend.py` traces a model with them.
        "torch.jit._get_trace_graph", "torch.jit._trace._trace_module_map",
    ),
    "onnx-export": ("torch.onnx.export",),
    "nni": (
        "nni.compression.pruning.L2NormPruner",
        "nni.compression.speedup.ModelSpeedup",
        "nni.compression.utils.shape_dependency.ChannelDependency",
        "nni.common.graph_utils.TorchModuleGraph._build_graph",
        "nni.common.graph_utils.TorchModuleGraph._extract_auxiliary_info",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", USED)
def test_what_is_deprecated_upstream_is_there(what: str) -> None:
    for dotted in USED[what]:
        try:
            pkgutil.resolve_name(dotted)
        except (ImportError, AttributeError):
            pytest.fail(f"{dotted} is gone: see {PAGE}")


def test_the_old_onnx_exporter_can_be_chosen() -> None:
    assert "dynamo" in inspect.signature(import_module("torch.onnx").export).parameters


def test_the_page_names_these_and_what_nni_fixes() -> None:
    page = PAGE.read_text()
    assert [what for what in USED if f"`{what}`" not in page] == []
    fixed = {line.replace(" ", "") for line in requires("nni") or ()}
    assert {"filelock<3.12", "typeguard<4.1.3,>=3.0.0"} <= fixed

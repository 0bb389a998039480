"""Make person re-identification models small and fast, and use them.

Every name here is imported when it is used, so that ``import reid_edge`` is fast and needs none of
the extras. ``Embedder`` and ``load_embedder`` with an ONNX file, ``embed_files``, ``read_source``
and ``ReidError`` work without extras; the other names need the extra ``compress``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from pipeline.run_api import read_run, run_pipeline
    from prune.pruning import prune
    from quantize.deployment import export, quantize
    from reid_edge.core.errors import ReidError
    from reid_edge.data.sources import read_source
    from reid_edge.inference.embedder import embed_files, load_embedder
    from reid_edge.inference.evaluation import evaluate
    from reid_edge.inference.frames import Embedder
    from reid_edge.models.checkpoint import load_checkpoint
    from reid_edge.models.registry import build_model

__all__ = [
    "Embedder",
    "ReidError",
    "__version__",
    "build_model",
    "embed_files",
    "evaluate",
    "export",
    "load_checkpoint",
    "load_embedder",
    "prune",
    "quantize",
    "read_run",
    "read_source",
    "run_pipeline",
]

_MODULES = {
    "Embedder": "reid_edge.inference.frames",
    "ReidError": "reid_edge.core.errors",
    "build_model": "reid_edge.models.registry",
    "embed_files": "reid_edge.inference.embedder",
    "evaluate": "reid_edge.inference.evaluation",
    "export": "quantize.deployment",
    "load_checkpoint": "reid_edge.models.checkpoint",
    "load_embedder": "reid_edge.inference.embedder",
    "prune": "prune.pruning",
    "quantize": "quantize.deployment",
    "read_run": "pipeline.run_api",
    "read_source": "reid_edge.data.sources",
    "run_pipeline": "pipeline.run_api",
}


_LIGHT = ("Embedder", "ReidError", "embed_files", "load_embedder", "read_source")
_NEEDED = ("torch", "lightning", "nni")


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _LIGHT:
        from reid_edge.core.errors import ReidError
        from reid_edge.core.packages import how_to_install, missing_packages

        missing = missing_packages(_NEEDED)
        if missing:
            raise ReidError(
                f"reid_edge.{name} needs the package {' and '.join(missing)}: "
                f"{how_to_install('compress')}"
            )
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

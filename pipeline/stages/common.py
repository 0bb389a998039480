"""What every stage that ends with a float model does last."""

from typing import Any

from torch import nn

from pipeline.context import StageContext
from pipeline.evaluation import headline
from pipeline.run_dir import CHECKPOINT, METRICS
from prune.layers import model_cost
from reid.files import write_json
from reid.models.checkpoint import describe, save_checkpoint


def finish_model(
    context: StageContext, model: nn.Module, architecture: str, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Write ``checkpoint.pt`` and ``metrics.json`` and return the row of the closing table."""
    model.cpu().eval()
    accuracy = headline(metrics, context.config)
    info = describe(
        model,
        architecture,
        input_size=context.input_size,
        metrics=accuracy,
        parent_hash=context.parent_hash,
    )
    path = context.folder / CHECKPOINT
    save_checkpoint(path, model, info)
    write_json(context.folder / METRICS, metrics)
    cost = model_cost(model, context.example())
    return {
        "model": architecture,
        "file": f"{context.stage}/{CHECKPOINT}",
        "parameters": cost.parameters,
        "macs": cost.macs,
        "bytes": path.stat().st_size,
        "metrics": metrics,
    }

"""Embeddings of pictures."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from reid.data.loaders import evaluation_loader
from reid.data.records import Picture
from reid.errors import ModelError, worker_errors_as_own

Embed = Callable[[Tensor], Tensor]


@torch.inference_mode()
def embed_batches(
    model: Embed, batches: Iterable[Tensor], *, device: torch.device | str = "cpu"
) -> Tensor:
    """Run a model over batches (B, 3, H, W) and return embeddings (N, D) on the CPU.

    Args:
        model: a module (put into evaluation mode) or any function from pictures to embeddings.
        batches: normalised pictures.
        device: where the model runs.

    Raises:
        DataError: a batch cannot be loaded.
        ModelError: an embedding is not finite.
    """
    # Depthwise and pointwise layers run faster with the channels innermost.
    layout = torch.contiguous_format
    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule):
        model.eval().to(device)
        layout = torch.channels_last
    with worker_errors_as_own():
        embeddings = torch.cat(
            [
                model(batch.to(device).contiguous(memory_format=layout)).float().cpu()
                for batch in batches
            ]
        )
    return check_finite(embeddings)


def check_finite(embeddings: Tensor) -> Tensor:
    """Return embeddings (N, D) as they are.

    Raises:
        ModelError: one is not finite.
    """
    finite = torch.isfinite(embeddings).all(1)
    if not finite.all():
        raise ModelError(
            f"{int((~finite).sum())} of {len(embeddings)} embeddings are not finite: the training "
            "diverged or the checkpoint is damaged; try a lower learning rate"
        )
    return embeddings


def embed_pictures(
    model: Embed,
    pictures: Sequence[Picture],
    *,
    height: int,
    width: int,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Load pictures and return their embeddings (N, D) in order, on the CPU."""
    loader = evaluation_loader(
        pictures, height=height, width=width, batch_size=batch_size, workers=workers
    )
    return embed_batches(model, loader, device=device)

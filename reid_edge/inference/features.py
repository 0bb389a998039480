"""Embeddings of images."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from reid_edge.core.errors import ModelError, worker_errors_as_own
from reid_edge.data.loaders import evaluation_loader
from reid_edge.data.schema import Sample

Embed = Callable[[Tensor], Tensor]


@torch.inference_mode()
def embed_batches(
    model: Embed, batches: Iterable[Tensor], *, device: torch.device | str = "cpu"
) -> Tensor:
    """Run a model over batches (B, 3, H, W) and return embeddings (N, D) on the CPU.

    Args:
        model: a module (put into evaluation mode) or any function from images to embeddings.
        batches: normalised images.
        device: where a module runs; a function is given batches as they come.

    Raises:
        DataError: a batch cannot be loaded.
        ModelError: an embedding is not finite.
    """
    embed = model
    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule):
        embed = embed_on(model, device)
    with worker_errors_as_own():
        embeddings = torch.cat([embed(batch).float().cpu() for batch in batches])
    return check_finite(embeddings)


def embed_on(model: nn.Module, device: torch.device | str) -> Embed:
    """Return a module, in evaluation mode, as a function of images wherever these are.

    Args:
        model: is moved.
        device: where it runs, and where its embeddings are.
    """
    model.eval().to(device)

    def embed(images: Tensor) -> Tensor:
        # Depthwise and pointwise layers run faster with the channels innermost.
        ordered = images.to(device).contiguous(memory_format=torch.channels_last)
        embeddings: Tensor = model(ordered)
        return embeddings

    return embed


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


def embed_images(
    model: Embed,
    images: Sequence[Sample],
    *,
    height: int,
    width: int,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Load images and return their embeddings (N, D) in order, on the CPU."""
    loader = evaluation_loader(
        images, height=height, width=width, batch_size=batch_size, workers=workers
    )
    return embed_batches(model, loader, device=device)

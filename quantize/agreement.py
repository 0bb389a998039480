"""Compare the embeddings of an int8 model with those of its float model."""

import copy
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quantize.measurements import Agreement
from reid_edge.core.errors import QuantizeError
from reid_edge.core.exchange import Ranks
from reid_edge.core.int8_engine import Engine, quantized_engine

AskEmbeddings = Callable[[nn.Module], Ranks]
"""Lets other processes call :func:`embed_held_back` for a model."""


class Reference:
    """The float model's embeddings of some images, to compare int8 models with.

    Args:
        model: the float model; a copy of it runs in evaluation mode on the CPU.
        batches: (N, 3, H, W) each; kept in memory.
        ask: lets other processes take their share of the batches, and returns them; the embeddings
            are the same. None: this process takes all.

    Raises:
        QuantizeError: there are no images.
    """

    def __init__(
        self, model: nn.Module, batches: Iterable[Tensor], ask: AskEmbeddings | None = None
    ) -> None:
        self.batches = list(batches)
        if not self.batches:
            raise QuantizeError("no images to compare int8 embeddings with float ones on")
        copied = copy.deepcopy(model).cpu().eval()
        if ask is None:
            self.embeddings = _embed(copied, self.batches)
        else:
            self.embeddings = torch.cat(_embed_dealt(copied, ask(model), self.batches))

    def agreement(self, model: Callable[[Tensor], Tensor], engine: Engine) -> Agreement:
        """Compare an int8 model with the float model; it runs on the engine it was made for."""
        with quantized_engine(engine):
            return compare(_embed(model, self.batches), self.embeddings)


@torch.inference_mode()
def embed_held_back(model: nn.Module, ranks: Ranks) -> None:
    """Embed the batches of a :class:`Reference` that rank zero deals to this process."""
    _embed_dealt(model.eval(), ranks)


@torch.inference_mode()
def _embed_dealt(model: nn.Module, ranks: Ranks, batches: Sequence[Tensor] = ()) -> list[Tensor]:
    """Return the embeddings of all batches on rank zero, and nothing on the others."""
    found: list[Tensor] = []
    for batch in ranks.deal(batches):
        found += ranks.collect(None if batch is None else model(batch))
    return found


def compare(embeddings: Tensor, reference: Tensor) -> Agreement:
    """Compare embeddings (N, D) with the float ones of the same images."""
    cosine = F.cosine_similarity(embeddings.double(), reference.double())
    error = (1 - cosine).clamp_min(0)
    length = reference.double().norm(dim=1).clamp_min(1e-12)
    relative = (embeddings.double() - reference.double()).norm(dim=1) / length
    return Agreement(
        images=len(reference),
        mean_cosine_error=float(error.mean()),
        largest_cosine_error=float(error.max()),
        mean_relative_error=float(relative.mean()),
    )


@torch.inference_mode()
def _embed(model: Callable[[Tensor], Tensor], batches: Iterable[Tensor]) -> Tensor:
    return torch.cat([model(batch) for batch in batches])

"""A model that takes pixels of 0 to 255 in place of normalised images."""

import torch
from torch import Tensor, nn

from reid_edge.core.exporter import PixelInput


class TakesPixels(nn.Module):
    """A model behind the normalisation of its images.

    Args:
        model: takes normalised images.
        pixels: order, mean and std of the colours.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, pixels: PixelInput) -> None:
        super().__init__()
        self.model = model
        self.reverse = pixels.reverse
        self.register_buffer("mean", 255 * torch.tensor(pixels.mean).reshape(1, 3, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(pixels.std).reshape(1, 3, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (N, 3, H, W), uint8."""
        normalised = (images.to(torch.float32) - self.mean) * self.scale
        if self.reverse:
            normalised = normalised.flip(1)
        embeddings: Tensor = self.model(normalised)
        return embeddings

"""A model file of any kind as a teacher: it takes images as the student's training loads them."""

import numpy as np
import torch
from torch import Tensor, nn

from reid_edge.core.model_file import FLOAT_INPUT
from reid_edge.data.decoding import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.inference.embedder import ImageEmbedder, embed_batch


class FileTeacher(nn.Module):
    """A loaded model file as a module; it has no parameters, and runs where its runtime does.

    Args:
        embedder: the model.

    Raises:
        ModelError: it fails on an image of its input size.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embedder: ImageEmbedder) -> None:
        super().__init__()
        self._embedder = (embedder,)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.dimensions = self(torch.zeros(1, 3, *embedder.space.input_size)).shape[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, D) of images (B, 3, H, W) with ImageNet's mean and std.

        The colours are brought to the order, mean and std that the file expects.
        """
        embedder = self._embedder[0]
        space = embedder.space
        colours = (images.float() * self.std + self.mean).clamp(0, 1)
        if space.colour_order == "BGR":
            colours = colours.flip(1)
        if space.input_form != FLOAT_INPUT:
            given = (255 * colours).round().to(torch.uint8)
        else:
            mean, std = (colours.new_tensor(v).view(3, 1, 1) for v in (space.mean, space.std))
            given = (colours - mean) / std
        found = embed_batch(embedder, np.ascontiguousarray(given.cpu().numpy()))
        return torch.from_numpy(np.asarray(found, dtype=np.float32)).to(images.device)

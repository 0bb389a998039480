"""Prune a network that reid-edge does not know, save it, and load it again."""

import torch
from torchvision.models import mobilenet_v2

from prune.api import prune

model = mobilenet_v2(width_mult=0.25).eval()  # your trained network
images = torch.randn(64, 3, 64, 32)  # normalised as in training; 64 to 128 of them
example = images[:1]

result = prune(model, example, macs=0.4, criterion="reconstruction", images=images)
print(result)  # every layer, and the totals

compact = result.model  # a plain module; `model` is as it was
share = result.report.macs_after / result.report.macs_before
print(f"{share:.2f} of the operations")

torch.save({"widths": result.widths, "state_dict": compact.state_dict()}, "compact.pt")

# To load it, prune an untrained network to the same widths, which takes a second.
content = torch.load("compact.pt", weights_only=True)
untrained = mobilenet_v2(width_mult=0.25).eval()
loaded = prune(untrained, example, widths=content["widths"]).model
loaded.load_state_dict(content["state_dict"])

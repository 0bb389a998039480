"""Prune a network that reid-edge does not know, save it, and load it again.

Install reid-edge first (``pip install '.[compress]'``), or set ``PYTHONPATH=.`` in the root of a
checkout.
"""

import torch
from torchvision.models import mobilenet_v2

import reid_edge

model = mobilenet_v2(width_mult=0.25).eval()  # your trained network
images = torch.randn(64, 3, 64, 32)  # normalised as in training; 64 to 128 of them
example = images[:1]

result = reid_edge.prune(model, example, macs=0.4, criterion="reconstruction", images=images)
print(result)  # every layer, and the totals

compact = result.model  # a plain module; `model` is as it was
share = result.report.macs_after / result.report.macs_before
print(f"{share:.2f} of the operations")

torch.save({"widths": result.widths, "state_dict": compact.state_dict()}, "compact.pt")

# To load it, prune an untrained network to the same widths, which takes a second.
content = torch.load("compact.pt", weights_only=True)
untrained = mobilenet_v2(width_mult=0.25).eval()
loaded = reid_edge.prune(untrained, example, widths=content["widths"]).model
loaded.load_state_dict(content["state_dict"])

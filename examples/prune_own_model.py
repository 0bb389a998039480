"""Prune a network that reid-edge does not know, save it, and load it again."""

import torch
from torchvision.models import mobilenet_v2

from prune.allocate import uniform
from prune.cut import cut
from prune.nni_backend import find_groups
from prune.recalibrate import rebase
from prune.reconstruct import reconstruct
from prune.reconstruction_scores import reconstruction_scores
from prune.targets import width_options
from reid_edge.core.cost import model_cost

model = mobilenet_v2(width_mult=0.25).eval()  # your trained network
images = torch.randn(64, 3, 64, 32)  # normalised as in training; 64 to 128 of them

example = torch.zeros(2, 3, 64, 32)
groups = find_groups(model, example)  # layers whose channels go together
free = width_options(model, example, cost_example=example[:1], groups=groups)
limit = 0.4 * model_cost(model, example[:1]).macs
widths = uniform(free, limit, lambda cost: cost.macs)

scores = reconstruction_scores(model, images, widths=widths, groups=groups)
result = cut(
    model,
    widths,
    example=example,
    check_input=images[:4],
    criterion="reconstruction",
    groups=groups,
    measured=scores,
)
reconstruct(result.model, model, result.kept, images)
rebase(result.model, [images])

compact = result.model  # a plain module; `model` is as it was
share = model_cost(compact, example[:1]).macs / model_cost(model, example[:1]).macs
print(f"{share:.2f} of the operations")
print(f"masked and compact differ by {result.difference:.0e}")

torch.save({"widths": widths, "state_dict": compact.state_dict()}, "compact.pt")

# To load it, cut an untrained network to the same widths, which takes a second.
content = torch.load("compact.pt", weights_only=True)
untrained = mobilenet_v2(width_mult=0.25).eval()
loaded = cut(untrained, content["widths"], example=example, check_input=example).model
loaded.load_state_dict(content["state_dict"])

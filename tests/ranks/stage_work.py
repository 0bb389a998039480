"""What stages do with a model and images, by one process or shared out over ranks."""

from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config import config_class
from pipeline.context import StageContext
from pipeline.rank_calibration import ask_calibration, ask_embeddings
from pipeline.rank_statistics import ask_covariances, ask_moments
from prune.covariances import Places, covariances
from prune.criteria.criterion import ScoreRequest, ScoringData
from prune.criteria.reconstruction import elimination_ranks
from prune.recalibrate import rebase
from quantize.agreement import Reference
from quantize.calibrate import Scheme, calibrate
from quantize.prepared import observer_names
from reid_edge.data.schema import ReidData
from reid_edge.models import build_model
from reid_edge.training.world import World

SIZE = (32, 16)
MODEL = "short_osnet_x0_25"  # it calls its gates several times in a forward pass


def shared_model() -> nn.Module:
    torch.manual_seed(1)
    model = build_model(MODEL, num_classes=4)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def work_of_stages(world: World | None) -> dict[str, Tensor]:
    """Return the tensors that all kinds of shared work come to, by name."""
    config = config_class()().model_copy(update={"device": "cpu"})
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"architecture": MODEL})}
    )
    no_images = ReidData(Path(), (), (), (), "market1501", has_cameras=True)
    context: StageContext[object] = StageContext(  # type: ignore[type-var]
        "prune", config, config.prune, Path(), no_images, None, None, "", SIZE, world=world
    )
    model = shared_model()
    # Two ranks have one batch more than there is in the last round; each is wider than the last.
    batches = [
        (1 + number / 8) * torch.randn(4 + number, 3, *SIZE, generator=generator(number))
        for number in range(5)
    ]
    images = torch.randn(70, 3, *SIZE, generator=generator(9))
    found: dict[str, Tensor] = {}
    # The channels of one layer alone, which four others read.
    layer = "conv3.0.conv1.conv"
    data = ScoringData([images], ask=ask_covariances(context))
    request = ScoreRequest(model, (layer,), {layer: 12}, [], data=data)
    found |= {f"rank {name}": values for name, values in elimination_ranks(request).items()}
    read, _ = covariances(
        model, images, Places({"conv3.0.gate.fc1": 24}, {}), ask_covariances(context)
    )
    found |= {f"covariance {name}": values for name, values in read.items()}
    rebased = shared_model()
    rebase(rebased, batches, ask_moments(context))
    found |= {f"rebased {name}": values for name, values in rebased.state_dict().items()}
    reference = Reference(model, batches, ask_embeddings(context))
    found["held back"] = reference.embeddings
    calibrated = calibrate(model, batches, Scheme(), ask=ask_calibration(context))
    for name in observer_names(calibrated.prepared):
        fixed = calibrated.prepared.get_submodule(name)
        found[f"range {name}"] = torch.cat([fixed.scale.double(), fixed.zero_point.double()])
    found["range of the sample"] = calibrated.sample
    return found


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

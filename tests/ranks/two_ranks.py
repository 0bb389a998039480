"""What two ranks do in the tests: train, and embed; started by torchrun."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline import rank_calibration, rank_statistics
from reid_edge.data.augmentation import AugmentationSettings
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.models import build_model
from reid_edge.training.distillation import Teacher
from reid_edge.training.fit import fit
from reid_edge.training.fit_config import FitConfig
from reid_edge.training.launchers import find_launch
from reid_edge.training.serve import SharedWork, serve
from reid_edge.training.settings import (
    DdpSettings,
    DistillationSettings,
    LossSettings,
    TrainingSettings,
)
from reid_edge.training.shared_embedding import embed_together
from reid_edge.training.validation import Validation
from reid_edge.training.world import World, joined
from tests.ranks.stage_work import work_of_stages

HEIGHT, WIDTH = 32, 16
LOSSES = LossSettings(cross_entropy=1.0, triplet=1.0, circle=0.01)
# Each batch of one process is one of both.
KINDS = {"gathered": True, "apart": False}


def settings(identities: int, learning_rate: float = 0.02) -> TrainingSettings:
    return TrainingSettings(
        epochs=1, identities_per_batch=identities, images_per_identity=3, optimizer="sgd",
        learning_rate=learning_rate, losses=LOSSES, weight_decay=0, warmup_epochs=0,
        augmentation=AugmentationSettings(flip=0.5, crop_padding=2),
    )  # fmt: skip


def new_teacher(images: int) -> Teacher:
    """A teacher of which only its embeddings of the images are known."""
    table = torch.randn(images, 32, generator=torch.Generator().manual_seed(3))
    return Teacher(torch.nn.Identity(), DistillationSettings(hints=0), table=table, dimensions=32)


def new_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("small_net", num_classes=8)


def main(images: Path, out: Path) -> None:
    launch = find_launch(2)
    assert launch is not None
    data = read_market1501(images)
    with joined(launch, "cpu") as world:
        if launch.rank > 0:
            works = {**rank_statistics.WORKS, **rank_calibration.WORKS}
            done: list[str] = []

            def note(kind: str, world: World, model: torch.nn.Module, job: Any) -> None:
                done.append(kind)
                works[kind].share(world, model, job)

            noted = {
                kind: SharedWork(work.job, partial(note, kind)) for kind, work in works.items()
            }
            serve(world, works=noted)
            (out / "done.txt").write_text("\n".join(done))
            return
        for name, gather in KINDS.items():
            model = new_model()
            # A rule that doubles the rate, which one process is given.
            ddp = DdpSettings(
                gather_embeddings=gather, sync_batchnorm=gather, learning_rate_rule="linear"
            )
            fit(
                model,
                FitConfig(
                    images=data.train, settings=settings(4, 0.01), height=HEIGHT, width=WIDTH,
                    seed=5, folder=out / name, label=name, accelerator="cpu", devices=2, ddp=ddp,
                    world=world, architecture="small_net", log=("csv",),
                    validation=Validation(data, batch_size=5),
                    teacher=new_teacher(len(data.train)),
                ),
            )  # fmt: skip
            torch.save(model.state_dict(), out / f"{name}.pt")
        embedded = [
            embed_together(
                world, "small_net", model, list(data.gallery)[:count], height=HEIGHT, width=WIDTH,
                batch_size=5, workers=0, device="cpu",
            )
            for count in (1, 13, len(data.gallery))
        ]  # fmt: skip
        torch.save({"embedded": embedded}, out / "embedded.pt")
        torch.save(work_of_stages(world), out / "stages.pt")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

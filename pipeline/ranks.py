"""A command in one of several processes that another program started, such as torchrun."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.run_dir import RunDir
from reid_edge.core.devices import choose_device
from reid_edge.core.errors import TrainingError
from reid_edge.training.launchers import Launch, find_launch

if TYPE_CHECKING:
    from reid_edge.training.world import World


def launch_of(config: Config) -> Launch | None:
    """Return the place of this process among those that another program started.

    Raises:
        TrainingError: the settings do not fit them, and a stage trains.
    """
    try:
        return find_launch(config.devices, config.num_nodes)
    except TrainingError:
        stages = [config.declared[name] for name in config.stages]
        if any(t.settings.epochs for stage in stages for t in stage.all_trainings(config)):
            raise
        return None


def run_ranks(
    launch: Launch | None, config: Config, run: RunDir, work: Callable[[World | None], None]
) -> int:
    """Do the work of a command in rank zero, with the help of the other ranks.

    Args:
        launch: the place of this process among them; none: it is alone.
        config: all settings; those of the other ranks say how many there are and where they find
            the images.
        run: the folder of the run; of the other ranks, where synthetic images are drawn if they
            cannot see those of rank zero.
        work: what rank zero does.

    Returns:
        The exit code, also where another rank failed, which rank zero shows.
    """
    if launch is None:
        work(None)
        return 0
    from reid_edge.training.serve import serve
    from reid_edge.training.world import EXIT_OTHER_RANK, OtherRankError, joined

    try:
        with joined(launch, choose_device(config.device)) as world:
            own = image_folders(config, run)
            if launch.rank == 0:
                world.send(json.dumps([str(root) for root in own]).encode())
                work(world)
            else:
                theirs = [Path(root) for root in json.loads(world.receive())]
                world.roots = list(zip(theirs, own, strict=False))
                from pipeline import rank_calibration, rank_statistics

                works = {**rank_statistics.WORKS, **rank_calibration.WORKS}
                serve(world, partial(draw_missing, config, run), works)
    except OtherRankError:
        return EXIT_OTHER_RANK
    return 0


def image_folders(config: Config, run: RunDir) -> list[Path]:
    """Return the folders of a run's images, in the order of the settings."""
    from pipeline.run_images import synthetic_folder

    others = [source.root for source in config.data.also_train_on]
    return [config.data.root or synthetic_folder(config, run), *others]


def draw_missing(config: Config, run: RunDir) -> None:
    """Draw synthetic images that this rank cannot see, once on each machine."""
    from pipeline.run_images import draw_synthetic, synthetic_folder
    from reid_edge.core.lock import locked
    from reid_edge.core.progress import no_progress

    folder = synthetic_folder(config, run)
    if config.data.root is not None or folder.exists():
        return
    run.path.mkdir(parents=True, exist_ok=True)
    with locked(run.path / "images.lock"):
        draw_synthetic(config, folder, no_progress)

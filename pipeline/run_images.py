"""The images of a run: the user's folder, or synthetic pedestrians in the run's folder."""

import json
import logging
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from pipeline.config import Config
from pipeline.run_dir import RunDir
from reid_edge.core.errors import DataError
from reid_edge.core.io import write_json
from reid_edge.core.progress import StartProgress, no_progress
from reid_edge.core.seeding import derive_seed
from reid_edge.data.held_out import check_enough, hold_out
from reid_edge.data.identities import merge_training, split_by_identity
from reid_edge.data.inspection import inspect_data
from reid_edge.data.schema import NO_CAMERAS, ReidData, check_evaluable, check_trainable
from reid_edge.data.sources import read_source
from reid_edge.data.synthetic import SyntheticSettings, write_synthetic_market1501

logger = logging.getLogger(__name__)

INSPECTION = "inspection.json"
# By which the draw of what is set apart for measuring is a function of a run's seed.
TEST_SET = "test set"
NOT_DRAWN = "not drawn yet"


def read_images(
    config: Config, run: RunDir, work: StartProgress = no_progress
) -> tuple[ReidData, str]:
    """Read the images (draw them first if needed), check that each is whole, and hash them.

    Args:
        config: of the run.
        run: its folder.
        work: begins a piece of work that is shown.

    Returns:
        The data, and its hash.

    Raises:
        DataError: the folder, a name or an image is not as it has to be.
    """
    if config.data.root is None:
        draw_synthetic(config, synthetic_folder(config, run), work)
    data, digest, stamps = _inspect(config, run, work)
    if not data.has_cameras and data.labels == "persons":
        # Faces have no cameras; for persons a file name may not have been understood.
        level = logging.WARNING if config.evaluation.task == "person" else logging.INFO
        logger.log(level, "%s: %s", data.root, NO_CAMERAS)
    for note in data.notes:
        logger.warning("%s: %s", data.root, note)
    write_json(run.path / INSPECTION, stamps)
    return data, digest


def split_validation(config: Config, data: ReidData) -> tuple[ReidData, ReidData | None]:
    """Set the validation identities apart from the training images, if any are asked for.

    Returns:
        The data with the rest to train on; and query and gallery of what was set apart, or none.

    Raises:
        DataError: none of the identities set apart is on two cameras.
    """
    share = config.data.validation_share
    if not share:
        return data, None
    apart = split_by_identity(data, share, derive_seed(config.seed, "validation"))
    return replace(data, train=apart.train), apart


def read_existing_images(
    config: Config, run: RunDir, work: StartProgress = no_progress
) -> tuple[ReidData | None, str]:
    """Read the images as they are now, and write nothing.

    Args:
        config: of the run.
        run: its folder.
        work: begins a piece of work that is shown.

    Returns:
        The data, and its hash; no data if the program has not drawn it yet.

    Raises:
        DataError: the folder, a name or an image is not as it has to be.
    """
    if config.data.root is None and not synthetic_folder(config, run).exists():
        return None, NOT_DRAWN
    return _inspect(config, run, work)[:2]


def synthetic_folder(config: Config, run: RunDir) -> Path:
    """Return the folder of a run's synthetic images; it depends on their settings."""
    settings = config.data.synthetic.model_dump_json()
    return run.path / f"images-{sha256(settings.encode()).hexdigest()[:8]}"


def _inspect(
    config: Config, run: RunDir, work: StartProgress
) -> tuple[ReidData, str, dict[str, str]]:
    """Read the images and check each; return them, their hash, and what the next check reuses."""
    settings = config.data
    root = settings.root or synthetic_folder(config, run)
    data = read_source(settings.format, root, progress=None, **settings.options)
    seed = derive_seed(config.seed, TEST_SET)
    if data.labels != "persons":
        data = hold_out(data, settings.test_share, seed)
    elif not data.query:
        data = split_by_identity(data, settings.test_share, seed)
    if settings.also_train_on:
        others = [
            read_source(source.format, source.root, progress=None, **source.options)
            for source in settings.also_train_on
        ]
        without = next((one.root for one in (data, *others) if one.labels != "persons"), None)
        if without is not None:
            raise DataError(
                f"{without}: has no identities, and data.also_train_on merges sets that have some; "
                "put images without identities into one folder"
            )
        data = merge_training([data, *others], data)
    check_trainable(data)
    if data.labels == "persons":
        check_evaluable(data)
    try:
        known = json.loads((run.path / INSPECTION).read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    digest, stamps = inspect_data(data, known=known, progress=work("checking images"))
    if data.labels != "persons":
        check_enough(data, len(set(stamps.values())))
    return data, digest, stamps


def draw_synthetic(config: Config, folder: Path, work: StartProgress) -> None:
    """Draw synthetic pedestrians, unless they are there already."""
    settings = config.data.synthetic
    write_synthetic_market1501(
        folder,
        SyntheticSettings(
            seed=settings.seed,
            train_identities=settings.train_identities,
            test_identities=settings.test_identities,
            cameras=settings.cameras,
            images_per_camera=settings.images_per_camera,
        ),
        progress=work("drawing pedestrians"),
    )

"""Stage ``train``: the full-width model, from random or from given weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from pipeline.settings.section import FilePath
from pipeline.stage import NamedFile, Stage
from reid_edge.models.published import PUBLISHED, fetch
from reid_edge.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.stage_results import StageResult


class TrainStage(TrainingSettings):
    """Stage ``train``: the full-width model."""

    pretrained: FilePath | None = Field(
        None,
        description="weights to start from, a file or the name of published ones "
        "(`osnet_x1_0_imagenet`); layers behind the backbone may be missing, with "
        "epochs=0 only the classifier; none: random weights",
    )
    pretrained_key: str | None = Field(
        None,
        description="which weights to take of a file that holds several, such as "
        "`state_dict_ema`; none: the usual ones, which the log names where there are others",
    )

    @field_validator("pretrained", mode="before")
    @classmethod
    def _find_published(cls, value: object) -> object:
        if isinstance(value, str) and value in PUBLISHED and not Path(value).exists():
            return str(PUBLISHED.load(value).path)
        return value


def run(context: StageContext[TrainStage]) -> StageResult:
    """Train, evaluate, write ``checkpoint.pt`` and ``metrics.json``."""
    import torch

    from pipeline.found_images import FOUND
    from pipeline.stage_accuracy import evaluate_stage
    from pipeline.stages.common import finish_model, train_model
    from pipeline.start_weights import load_start, log_start
    from reid_edge.data.schema import count_persons
    from reid_edge.models.registry import build_model

    model_settings, images = context.config.model, context.data.train
    torch.manual_seed(context.seed("weights"))
    model = build_model(
        model_settings.architecture,
        num_classes=count_persons(images) if context.data.labels == "persons" else 1,
        embedding_dim=model_settings.embedding_dim,
    )
    log_start(load_start(model, context.settings))
    train_model(context, model, context.settings)
    metrics = evaluate_stage(model, context, found=context.folder / FOUND)
    return finish_model(context, model, model_settings.architecture, metrics)


def _files(settings: TrainStage) -> list[NamedFile]:
    """Return the file of pretrained weights; published ones are downloaded if they are missing."""
    path = settings.pretrained
    if path is None:
        return []
    published = next((one for _, one in PUBLISHED.items() if one.path == path), None)
    if published is not None:
        fetch(published)
    return [NamedFile("pretrained", "train.pretrained", path)]


def _check_files(config: Config) -> None:
    """Load the pretrained weights, as the run will."""
    settings = config.of(TRAIN)
    if settings.pretrained is None:
        return
    from pipeline.start_weights import load_start
    from reid_edge.models.registry import build_model

    model = build_model(
        config.model.architecture, num_classes=2, embedding_dim=config.model.embedding_dim
    )
    load_start(model, settings)


TRAIN: Stage[TrainStage] = Stage(
    name="train",
    summary="train the full-width model, from random or from given weights",
    settings=TrainStage,
    run=run,
    model="makes",
    hint="train.epochs=0 with train.pretrained=FILE takes a model as it is",
    default=True,
    # The file of pretrained weights counts by its content, see ``files``.
    counted=lambda config: {
        "train": {
            name: value
            for name, value in config.of(TRAIN).model_dump(mode="json").items()
            if name != "pretrained" and (name, value) != ("pretrained_key", None)
        }
    },
    files=_files,
    check_files=_check_files,
)

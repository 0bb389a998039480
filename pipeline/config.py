"""All settings of a run: the sections that every run has, and one section a stage."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, create_model

from pipeline.settings.data import DataSettings
from pipeline.settings.measurement import EvaluationSettings, LatencySettings, ReportSettings
from pipeline.settings.model import ModelSettings
from pipeline.settings.search import SearchSettings
from pipeline.settings.section import Settings
from pipeline.settings.teacher import TeacherSettings
from pipeline.settings.transfer_learning import TransferLearningSettings
from pipeline.stage import AnyStage, Stage, Stages
from reid_edge.training.settings import DdpSettings, MetricFormat, Strategy

S = TypeVar("S", bound=BaseModel)
LogFormat = Literal["csv", "tensorboard", "mlflow", "wandb"]


class Config(Settings):
    """Everything a run is made of; :func:`config_class` adds a section a stage."""

    declared: ClassVar[Stages]

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="folder below runs/"
    )
    seed: int = Field(0, ge=0, description="seed of all random draws")
    stages: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of the training: cpu, cuda, or auto (the GPU if there is one)"
    )
    devices: int = Field(
        1,
        ge=1,
        description="number of GPUs, or of processes on the CPU, of a machine that train at once "
        "(DDP); each takes its own batches of P x K images; adapt and quantize.qat use one",
    )
    num_nodes: int = Field(
        1,
        ge=1,
        description="number of machines that train together; torchrun, srun or Kubeflow starts the "
        "command once for each device of each",
    )
    strategy: Strategy = Field(
        "auto",
        description="how several processes train: ddp, ddp_find_unused_parameters_true (for layers "
        "that get no gradient), or auto, the second one where layers are frozen or the classifier "
        "has no loss",
    )
    ddp: DdpSettings = DdpSettings()
    log: Annotated[
        tuple[LogFormat, ...],
        BeforeValidator(
            lambda value: (
                [part.strip() for part in value.split(",")] if isinstance(value, str) else value
            )
        ),
    ] = Field(
        ("csv",),
        description="files with the losses, rates and mAP of every epoch, in the folder of the "
        "training: csv (metrics.csv), tensorboard, or both (csv,tensorboard); trackers that are "
        "sent these numbers and, at the end, tables, page and files: mlflow, wandb",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; none: all cores")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    teacher: TeacherSettings = TeacherSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    latency: LatencySettings = LatencySettings()
    report: ReportSettings = ReportSettings()
    search: SearchSettings = SearchSettings()
    # Read as what it sets, so that a run has each setting once.
    transfer_learning: TransferLearningSettings = Field(TransferLearningSettings(), exclude=True)

    @property
    def metric_files(self) -> tuple[MetricFormat, ...]:
        """Return the files of numbers that trainings write; trackers are sent those of csv."""
        files: list[MetricFormat] = [name for name in ("csv", "tensorboard") if name in self.log]
        if "csv" not in files and len(files) < len(self.log):
            files.insert(0, "csv")
        return tuple(files)

    @property
    def ranks(self) -> int:
        """Return how many processes train together."""
        return self.devices * self.num_nodes

    def of(self, stage: Stage[S]) -> S:
        """Return the section of a stage."""
        section: S = getattr(self, stage.name)
        return section


def config_class(stages: Stages | None = None) -> type[Config]:
    """Return the class of the settings of runs with these stages.

    Args:
        stages: by default the registered ones.
    """
    if stages is None:
        from pipeline.stages import default_stages

        stages = default_stages()
    return _class_with(tuple(stages))


@lru_cache(maxsize=16)
def _class_with(declared: tuple[AnyStage, ...]) -> type[Config]:
    """Return one class for the same stages, so that equal settings compare as equal."""
    stages = Stages(declared)
    names = ", ".join(stages.names)
    fields: dict[str, Any] = {
        "stages": (
            tuple[str, ...],
            Field(
                stages.default_names,
                description=f"stages to run, in this order: {names}",
            ),
        )
    }
    fields |= {
        stage.name: (stage.settings, Field(default_factory=stage.settings)) for stage in stages
    }
    made: type[Config] = create_model("Config", __base__=Config, **fields)
    made.declared = stages
    return made

"""All settings of a run; each section is in ``pipeline.settings``."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.settings.base import Settings
from pipeline.settings.benchmark import BenchmarkStage, LatencySettings
from pipeline.settings.cut import PruneStage, TransferStage
from pipeline.settings.data import DataSettings
from pipeline.settings.evaluation import EvaluationSettings
from pipeline.settings.export import ExportStage
from pipeline.settings.model import ModelSettings
from pipeline.settings.quantize import QuantizeStage
from pipeline.settings.search import SearchSettings
from pipeline.settings.stage_names import DEFAULT_STAGES, STAGES, StageName
from pipeline.settings.train import FinetuneStage, ResizeStage, TrainStage
from reid_edge.training.settings import MetricFormat


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class Config(Settings):
    """Everything a run is made of."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="folder below runs/"
    )
    seed: int = Field(0, ge=0, description="every draw is a function of it")
    stages: tuple[StageName, ...] = Field(
        DEFAULT_STAGES, description=f"stages to run, in this order; there are {', '.join(STAGES)}"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where to train: cpu, cuda, or auto, the GPU if there is one"
    )
    devices: int = Field(
        1,
        ge=1,
        description="GPUs, or processes on the CPU, to train on at once (DDP); each takes batches "
        "of its own, so that a step sees so many times P x K images; quantize.qat takes one",
    )
    log: Annotated[tuple[MetricFormat, ...], BeforeValidator(_split)] = Field(
        (),
        description="how to write the losses, rates and mAP of every epoch into the folder of the "
        "training: csv (metrics.csv), tensorboard, or both (csv,tensorboard)",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; none: all cores")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    train: TrainStage = TrainStage()
    transfer: TransferStage = TransferStage()
    prune: PruneStage = PruneStage()
    finetune: FinetuneStage = FinetuneStage()
    resize: ResizeStage = ResizeStage()
    quantize: QuantizeStage = QuantizeStage()
    export: ExportStage = ExportStage()
    benchmark: BenchmarkStage = BenchmarkStage()
    latency: LatencySettings = LatencySettings()
    search: SearchSettings = SearchSettings()

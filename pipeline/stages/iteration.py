"""One iteration of a stage that cuts: its task, and the files in its folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.context import StageContext
from pipeline.run_dir import CHECKPOINT, KEPT, METRICS
from pipeline.settings.cut_sections import CutStage
from pipeline.target_widths import TRACE_SIZE
from prune.criteria.criterion import Criterion, ScoringData
from prune.hints import hint_channels
from prune.report import read_report
from prune.surgery import Cut
from reid_edge.core.checksums import are_intact
from reid_edge.core.io import write_bytes, write_json
from reid_edge.metrics.results import Evaluation
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint

REPORT = "iteration.json"


class Cutter(Protocol):
    """Cuts a copy of a model to planned widths; :func:`prune.surgery.cut` is one."""

    def __call__(
        self,
        model: nn.Module,
        widths: Mapping[str, int],
        *,
        example: Tensor,
        check_input: Tensor,
        criterion: str | Criterion = ...,
        data: ScoringData | None = None,
        seed: int = ...,
        groups: list[tuple[str, ...]] | None = None,
    ) -> Cut:
        """See :func:`prune.surgery.cut`."""


@dataclass(frozen=True)
class State:
    """A model on its way to the target.

    Attributes:
        model: on the CPU.
        kept: which channels of the full-width model each layer still has.
        metrics: of the model, on query and gallery.
        judged: its mAP on the identities set apart, where that is known.
    """

    model: nn.Module
    kept: dict[str, Tensor]
    metrics: Evaluation
    judged: float | None = None


@dataclass(frozen=True)
class Iteration:
    """The task of one iteration.

    Attributes:
        context: of the stage.
        cutter: what cuts.
        number: from 1.
        count: K.
        widths: planned channels after it, by layer.
        full_width: the model before the first cut; the teacher, and the target of the hints.
        groups: its layers whose channels go together.
    """

    context: StageContext[CutStage]
    cutter: Cutter
    number: int
    count: int
    widths: dict[str, int]
    full_width: nn.Module
    groups: list[tuple[str, ...]]

    @property
    def folder(self) -> Path:
        """Return where it writes."""
        return self.context.folder / f"iteration_{self.number}"

    @property
    def label(self) -> str:
        """Return what the log calls it."""
        return f"{self.context.stage} {self.number}/{self.count}"

    @property
    def settings(self) -> CutStage:
        """Return the settings of the stage."""
        return self.context.settings

    @property
    def accuracy_budget(self) -> float | None:
        """Return the mAP that the iteration may lose; None: no limit."""
        return self.settings.accuracy_budget

    @property
    def rounds(self) -> int:
        """Return the largest number of tuning rounds."""
        return 1 if self.accuracy_budget is None else 1 + self.settings.extra_tuning

    @property
    def results(self) -> tuple[Path, ...]:
        """Return the files that it leaves, the last of them its report."""
        return tuple(self.folder / name for name in (CHECKPOINT, KEPT, METRICS, REPORT))

    def is_finished(self) -> bool:
        """Return whether its report is written, and nothing that it left is damaged."""
        return (self.folder / REPORT).exists() and are_intact(*self.results)

    def hints(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the kept channels at which its model is compared with the full-width model."""
        kept = read_kept(self.folder / KEPT)
        return hint_channels(model, torch.zeros(1, 3, *TRACE_SIZE), kept)

    def save(self, name: str, model: nn.Module) -> None:
        """Write a checkpoint of its model, which is moved to the CPU."""
        info = describe(
            model,
            self.context.config.model.architecture,
            input_size=self.context.input_size,
            parent_hash=self.context.parent_hash,
        )
        save_checkpoint(self.folder / name, model.cpu(), info)


def load_state(iteration: Iteration) -> State:
    """Load what a finished iteration left."""
    folder = iteration.folder
    return State(
        model=load_checkpoint(folder / CHECKPOINT)[0],
        kept=read_kept(folder / KEPT),
        metrics=read_metrics(folder / METRICS),
        judged=read_report(folder / REPORT).validated.get("after_tuning"),
    )


def read_metrics(path: Path) -> Evaluation:
    """Read what a model scored on query and gallery."""
    return Evaluation.from_json(path.read_bytes(), str(path))


def write_metrics(path: Path, metrics: Evaluation) -> None:
    """Write what a model scored on query and gallery."""
    write_bytes(path, metrics.to_json().encode())


def write_kept(path: Path, kept: dict[str, Tensor]) -> None:
    """Write which channels of the full-width model each layer still has."""
    write_json(path, {name: rows.tolist() for name, rows in kept.items()})


def read_kept(path: Path) -> dict[str, Tensor]:
    """Read which channels of the full-width model each layer still has."""
    return {name: torch.tensor(rows) for name, rows in json.loads(path.read_text()).items()}

"""One iteration of a stage that cuts: what it is to do, and what it keeps in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.context import StageContext
from pipeline.run_dir import CHECKPOINT, KEPT, METRICS
from pipeline.settings.cut import CutSettings, PruneStage
from pipeline.widths import TRACE_SIZE
from prune.hints import hint_channels
from prune.report import read_report
from reid_edge.core.io import write_json
from reid_edge.models.checkpoint import describe, load_checkpoint, save_checkpoint

REPORT = "report.json"


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
    metrics: dict[str, Any]
    judged: float | None = None


@dataclass(frozen=True)
class Iteration:
    """What one iteration is to do.

    Attributes:
        context: of the stage.
        settings: of the stage.
        number: from 1.
        count: K.
        widths: planned channels after it, by layer.
        full_width: the model before the first cut; teacher, and original of the stage hints.
        groups: its layers whose channels go together.
    """

    context: StageContext
    settings: CutSettings
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
    def accuracy_budget(self) -> float | None:
        """Return the mAP that it may lose; None if there is no limit, as for transfer."""
        return self.settings.accuracy_budget if isinstance(self.settings, PruneStage) else None

    @property
    def rounds(self) -> int:
        """Return how often it may be tuned."""
        if not isinstance(self.settings, PruneStage) or self.settings.accuracy_budget is None:
            return 1
        return 1 + self.settings.extra_tuning

    def is_finished(self) -> bool:
        """Tell whether there is nothing left to do."""
        return (self.folder / REPORT).exists()

    def hints(self, model: nn.Module) -> dict[str, Tensor]:
        """Return where its compact model can be compared with the full-width one."""
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
        metrics=json.loads((folder / METRICS).read_text()),
        judged=read_report(folder / REPORT).validated.get("after_tuning"),
    )


def write_kept(path: Path, kept: dict[str, Tensor]) -> None:
    """Write which channels of the full-width model each layer still has."""
    write_json(path, {name: rows.tolist() for name, rows in kept.items()})


def read_kept(path: Path) -> dict[str, Tensor]:
    """Read which channels of the full-width model each layer still has."""
    return {name: torch.tensor(rows) for name, rows in json.loads(path.read_text()).items()}

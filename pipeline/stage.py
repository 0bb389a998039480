"""The declaration of a stage; engine, settings and report use nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, JsonValue

from pipeline.results import StageResult
from reid_edge.core.errors import PipelineError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.plan import Plan
    from pipeline.results import Latencies, StageRecord
    from pipeline.run_dir import RunDir
    from reid_edge.data.schema import ReidData
    from reid_edge.training.settings import DistillationSettings, TrainingSettings

S = TypeVar("S", bound=BaseModel)
JsonDict = dict[str, JsonValue]


@dataclass(frozen=True)
class NamedFile:
    """A file that a stage is made from because a setting names it.

    Attributes:
        name: among the stage's inputs.
        key: of the setting.
        path: of the file.
    """

    name: str
    key: str
    path: Path


@dataclass(frozen=True)
class Made:
    """What a stage made, as far as later stages depend on it.

    Attributes:
        outputs: hashes of its files, by name.
        parent: hash of the model that it started from; empty if it starts from none.
    """

    outputs: Mapping[str, str]
    parent: str = ""


@dataclass(frozen=True)
class Upstream:
    """The results that a stage can start from.

    Attributes:
        parent: the stage whose model it starts from, if there is one.
        parent_hash: of that model's file, or empty.
        made: what the earlier stages made, by stage, as far as it fits the settings.
    """

    parent: Made | None
    parent_hash: str
    made: Mapping[str, Made]


@dataclass(frozen=True)
class Training:
    """A training of a stage, for the checks before the run.

    Attributes:
        key: of its settings.
        settings: of the training.
        distillation: weights of the distillation losses, if it has a teacher.
        devices: how many devices it runs on; none: as many as the run's ``devices``.
    """

    key: str
    settings: TrainingSettings
    distillation: DistillationSettings | None = None
    devices: int | None = None


@dataclass(frozen=True)
class ReportSection:
    """What a finished stage adds to the report of its run.

    Attributes:
        tables: for the terminal, below the closing table.
        footnotes: lines below the closing table; they are given the latencies of the run, too.
        lines: lines below the stage's own tables.
        template: file name of the section of the page, a Jinja template; it is given ``record``,
            the stage's record, and ``report``.
        template_folder: where it is; none: beside those of the program.
        filters: functions that the template uses, by their names.
    """

    tables: Callable[[StageRecord], Sequence[RenderableType]] = lambda _: ()
    footnotes: Callable[[StageRecord, Latencies | None], Sequence[str]] = lambda *_: ()
    lines: Callable[[StageRecord], Sequence[str]] = lambda _: ()
    template: str | None = None
    template_folder: Path | None = None
    filters: Sequence[Callable[..., object]] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Generic[S]):
    """A stage of a run.

    Attributes:
        name: on the command line, of its section in the settings, and of its folder.
        summary: what it does, in one line.
        settings: class of its section; every setting has a default.
        run: does the work in ``context.folder`` and returns what the report shows. What it imports
            beyond this module it imports when it is called: declarations are read for every
            ``--help``.
        result: class of what ``run`` returns.
        model: "makes" a float model from none, "changes" one (both leave ``checkpoint.pt``), or
            "reads" one.
        cuts: it takes the model to its target's widths. A run uses one stage of this kind.
        default: it is part of a run that names no stages.
        after: the stage that it follows in the order; none: the last one.
        version: of what it does, where that is not a function of its settings; another version
            makes it stale.
        packages: that it needs besides the requirements, as they are imported.
        extra: that installs these packages.
        hint: how to take a model as it is, for a stage that "makes" one.
        teacher: its result depends on the full-width model.
        input_size: (height, width) of its model, where that is not the parent's.
        architecture: of the model that it leaves, None if the widths are no architecture's; by
            default the model's own.
        counted: its settings that its result depends on, as sections; by default its own section.
        shows_accuracy: what it leaves has accuracy in it, so ``evaluation`` counts too.
        chooses_by_accuracy: whether its settings make it choose by mAP.
        files: the files that its settings name.
        inputs: hashes of further files of earlier stages that its result depends on, by name.
        trainings: its trainings, which are checked before the run.
        check: raises what is wrong with the settings, before images are read.
        check_data: raises what does not fit the images.
        check_files: raises what is wrong with files that settings name, if the stage will run.
        unused: lines about its settings that have no effect.
        show_plan: what ``--plan`` shows of it.
        report: what it adds to the report.
    """

    name: str
    summary: str
    settings: type[S]
    run: Callable[[StageContext[S]], StageResult]
    result: type[StageResult] = StageResult
    model: Literal["makes", "changes", "reads"] = "reads"
    cuts: bool = False
    default: bool = False
    after: str | None = None
    version: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    hint: str = ""
    teacher: bool = False
    input_size: Callable[[S], tuple[int, int]] | None = None
    architecture: Callable[[Config], str | None] = lambda config: config.model.architecture
    counted: Callable[[Config], JsonDict] | None = None
    shows_accuracy: bool = False
    chooses_by_accuracy: Callable[[S], bool] = lambda _: False
    files: Callable[[S], Sequence[NamedFile]] = lambda _: ()
    inputs: Callable[[Upstream], Mapping[str, str]] = lambda _: {}
    trainings: Callable[[Config], Sequence[Training]] = lambda _: ()
    check: Callable[[Config], None] = lambda _: None
    check_data: Callable[[Config, ReidData], None] = lambda *_: None
    check_files: Callable[[Config], None] = lambda _: None
    unused: Callable[[Config], Iterable[str]] = lambda _: ()
    show_plan: Callable[[Config, RunDir, Plan], Sequence[RenderableType]] = lambda *_: ()
    report: ReportSection = ReportSection()

    @property
    def leaves_model(self) -> bool:
        """Return whether later stages can start from what it leaves."""
        return self.model != "reads"


AnyStage = Stage[Any]


class Stages:
    """The stages that a run can have, in their order.

    Args:
        declared: in order; one with ``after`` is moved behind that stage.

    Raises:
        PipelineError: a name stands twice or cannot be used, or ``after`` names no stage.
    """

    def __init__(self, declared: Iterable[AnyStage]) -> None:
        self._by_name: dict[str, AnyStage] = {}
        followers: dict[str | None, list[AnyStage]] = {}
        for stage in declared:
            _check_name(stage.name)
            if stage.name in self._by_name:
                raise PipelineError(f"stage {stage.name!r} is declared twice; rename one of them")
            self._by_name[stage.name] = stage
            followers.setdefault(stage.after, []).append(stage)
        order: list[AnyStage] = []

        def place(name: str | None) -> None:
            """Append the stages behind one, each with those that follow it."""
            for stage in followers.pop(name, []):
                order.append(stage)
                place(stage.name)

        place(None)
        for name, waiting in followers.items():
            raise PipelineError(
                f"stage {waiting[0].name!r} comes after {name!r}, which is no stage before it; "
                f"known are {', '.join(stage.name for stage in order)}"
            )
        self._order = tuple(order)
        self.names = tuple(stage.name for stage in order)

    def __iter__(self) -> Iterator[AnyStage]:
        return iter(self._order)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> AnyStage:
        return self._by_name[name]

    def before(self, name: str) -> tuple[AnyStage, ...]:
        """Return the stages before one."""
        return self._order[: self.names.index(name)]

    @property
    def default_names(self) -> tuple[str, ...]:
        """Return the stages of a run that names none."""
        return tuple(stage.name for stage in self if stage.default)

    @property
    def cutting(self) -> tuple[str, ...]:
        """Return the stages that take the model to its target's widths."""
        return tuple(stage.name for stage in self if stage.cuts)

    def with_stage(self, stage: AnyStage) -> Stages:
        """Return these stages with one more, or with one in the place of that of its name."""
        if stage.name not in self:
            return Stages((*self, stage))
        return Stages(stage if other.name == stage.name else other for other in self)


def _check_name(name: str) -> None:
    """Check that a name can be a folder of the run and a section of the settings."""
    from pipeline.config import Config
    from pipeline.run_dir import RESERVED

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PipelineError(f"stage {name!r}: a name has small letters, digits and _")
    if name in RESERVED or hasattr(Config, name) or name in Config.model_fields:
        raise PipelineError(f"stage {name!r}: the name is taken by settings or by the run's folder")

"""The declaration of a stage; engine, settings and report use nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, JsonValue

from pipeline.run_dir import CHECKPOINT, RESERVED
from reid_edge.core.errors import PipelineError
from reid_edge.core.suggestions import did_you_mean
from reid_edge.training.settings import DistillationSettings, TrainingSettings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pipeline.config import Config
    from pipeline.context import StageContext
    from pipeline.plan import Plan
    from pipeline.run_dir import RunDir
    from pipeline.stage_results import Latencies, StageRecord, StageResult
    from reid_edge.core.devices import Precision
    from reid_edge.data.schema import ReidData

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

    @property
    def distillation_weights(self) -> dict[str, float]:
        """Return the weights of the distillation losses, by name; none without a teacher."""
        return {} if self.distillation is None else self.distillation.model_dump()

    def unused(self) -> Iterator[str]:
        """Yield a line for each setting that has no effect."""
        key, settings = self.key, self.settings
        if settings.milestones and settings.schedule != "step":
            yield f"{key}.milestones: not used, {key}.schedule is {settings.schedule}"
        elif settings.epochs and any(epoch >= settings.epochs for epoch in settings.milestones):
            yield f"{key}.milestones: some are never reached, {key}.epochs is {settings.epochs}"
        if settings.epochs and settings.frozen_epochs >= settings.epochs:
            yield f"{key}.frozen_epochs: the layers never learn, {key}.epochs is {settings.epochs}"
        if settings.frozen_layers and not settings.frozen_epochs:
            yield f"{key}.frozen_layers: not used, {key}.frozen_epochs is 0"


@runtime_checkable
class TaughtSection(Protocol):
    """The section of a stage that can train with the full-width model as teacher."""

    @property
    def teacher(self) -> bool:
        """Return whether the full-width model is the teacher."""

    @property
    def distillation(self) -> DistillationSettings:
        """Return the weights of the losses between the two models."""


@dataclass(frozen=True)
class StageWork:
    """What a stage does, as far as its time depends on settings and images.

    Attributes:
        trained: images that go through training steps, each counted once an epoch.
        evaluated: images that are embedded.
        precision: arithmetic of the training steps, as Lightning names it; None: there are none.
    """

    trained: float
    evaluated: float
    precision: Precision | None = None


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
        result: class of what ``run`` returns, or ``"module:class"``, which is imported when it is
            needed.
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
        teacher: its result depends on the full-width model, or by its section whether it does.
            Where images have no identities, that of every stage does that does not make it.
        teaches: its model takes the place of the full-width model as the teacher of later stages.
        own_labels: it learns from labels that it makes itself, so that it needs no identities.
        input_size: (height, width) of its model, where that is not the parent's.
        architecture: of the model that it leaves, None if the widths are no architecture's; by
            default the model's own.
        counted: its settings that its result depends on, as sections; by default its own section.
        shows_accuracy: what it leaves has accuracy in it, so ``evaluation`` counts too.
        chooses_by_accuracy: whether its settings make it choose by mAP.
        files: the files that its settings name.
        inputs: hashes of further files of earlier stages that its result depends on, by name.
        trainings: its trainings, which are checked before the run. By default its section is one,
            or each of the section's settings that is a ``TrainingSettings``; a ``TaughtSection``
            gives the distillation.
        work: what it does with these images, from which its time is estimated. By default it goes
            through its trainings, and embeds query and gallery once.
        check: raises what is wrong with the settings, before images are read.
        check_data: raises what does not fit the images.
        check_files: raises what is wrong with files that settings name, if the stage will run.
        unused: lines about its settings that have no effect; those about its trainings and about
            the distillation of a ``TaughtSection`` need not be among them.
        show_plan: what ``--plan`` shows of it.
        report: what it adds to the report, or ``"module:attribute"`` of it.
    """

    name: str
    summary: str
    settings: type[S]
    run: Callable[[StageContext[S]], StageResult]
    result: type[StageResult] | str = "pipeline.stage_results:StageResult"
    model: Literal["makes", "changes", "reads"] = "reads"
    cuts: bool = False
    default: bool = False
    after: str | None = None
    version: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    hint: str = ""
    teacher: bool | Callable[[S], bool] = False
    teaches: bool = False
    own_labels: bool = False
    input_size: Callable[[S], tuple[int, int]] | None = None
    architecture: Callable[[Config], str | None] = lambda config: config.model.architecture
    counted: Callable[[Config], JsonDict] | None = None
    shows_accuracy: bool = False
    chooses_by_accuracy: Callable[[S], bool] = lambda _: False
    files: Callable[[S], Sequence[NamedFile]] = lambda _: ()
    inputs: Callable[[Upstream], Mapping[str, str]] = lambda _: {}
    trainings: Callable[[Config], Sequence[Training]] | None = None
    work: Callable[[Config, ReidData], StageWork] | None = None
    check: Callable[[Config], None] = lambda _: None
    check_data: Callable[[Config, ReidData], None] = lambda *_: None
    check_files: Callable[[Config], None] = lambda _: None
    unused: Callable[[Config], Iterable[str]] = lambda _: ()
    show_plan: Callable[[Config, RunDir, Plan], Sequence[RenderableType]] = lambda *_: ()
    report: ReportSection | str = ReportSection()

    @property
    def leaves_model(self) -> bool:
        """Return whether later stages can start from what it leaves."""
        return self.model != "reads"

    def takes_teacher(self, config: Config) -> bool:
        """Return whether its result depends on the full-width model."""
        if config.data.labels != "persons":
            return self.model != "makes" or config.teacher.file is not None
        return self.teacher(config.of(self)) if callable(self.teacher) else self.teacher

    @property
    def result_class(self) -> type[StageResult]:
        """Return the class of what it returns."""
        result: type[StageResult] = _loaded(self.result)
        return result

    @property
    def report_section(self) -> ReportSection:
        """Return what it adds to the report."""
        section: ReportSection = _loaded(self.report)
        return section

    def all_trainings(self, config: Config) -> Sequence[Training]:
        """Return the trainings of the stage: what it declares, or those of its section."""
        if self.trainings is not None:
            return self.trainings(config)
        section: BaseModel = config.of(self)
        taught: object = section
        distillation = None
        if isinstance(taught, TaughtSection) and taught.teacher:
            distillation = taught.distillation
            stages = [config.declared[name] for name in config.stages]
            makes_model = any(stage.model == "makes" for stage in stages)
            if makes_model and not any(stage.cuts for stage in stages):
                # Its model is the full-width one: there are no kept channels, so no hints.
                distillation = distillation.model_copy(update={"hints": 0.0})
        if isinstance(section, TrainingSettings):
            return [Training(self.name, section, distillation)]
        return [
            Training(f"{self.name}.{key}", settings, distillation)
            for key, settings in section
            if isinstance(settings, TrainingSettings)
        ]

    def all_work(self, config: Config, data: ReidData) -> StageWork:
        """Return what the stage does with these images: what it declares, or its trainings."""
        if self.work is not None:
            return self.work(config, data)
        return training_work(self.all_trainings(config), data)

    def all_unused(self, config: Config) -> Iterator[str]:
        """Yield a line for each setting of the stage and of its trainings without effect."""
        section: object = config.of(self)
        if isinstance(section, TaughtSection) and not section.teacher:
            default = self.settings.model_fields["distillation"].default
            if section.distillation != default:
                yield f"{self.name}.distillation: not used, {self.name}.teacher is false"
        yield from self.unused(config)
        for training in self.all_trainings(config):
            yield from training.unused()

    def check_result(self, result: object, folder: Path) -> None:
        """Check that the stage left what its declaration says, so that it can be read again.

        Raises:
            PipelineError: it returned another class, or left no model.
        """
        if type(result) is not self.result_class:
            raise PipelineError(
                f"stage {self.name} returned {type(result).__name__}, and its declaration says "
                f"{self.result_class.__name__}; declare it with result="
            )
        if self.leaves_model and not (folder / CHECKPOINT).is_file():
            raise PipelineError(
                f"stage {self.name} left no {CHECKPOINT}, and its declaration says that it "
                f"{self.model} a model; write it with finish_model"
            )


def training_work(trainings: Sequence[Training], data: ReidData) -> StageWork:
    """Return the work of trainings, and of one evaluation."""
    epochs = sum(training.settings.epochs for training in trainings)
    precisions = [one.settings.precision for one in trainings if one.settings.epochs]
    return StageWork(
        trained=epochs * len(data.train),
        evaluated=judged_images(data),
        precision=next(iter(precisions), None),
    )


def judged_images(data: ReidData) -> int:
    """Return how many images an evaluation embeds."""
    return len(data.query) + len(data.gallery)


def _loaded(declared: Any) -> Any:
    return resolve_name(declared) if isinstance(declared, str) else declared


AnyStage = Stage[Any]


class Stages:
    """The stages that a run can have, in their order.

    Args:
        declared: in order; one with ``after`` is moved behind that stage.

    Raises:
        PipelineError: a name stands twice or cannot be used, or ``after`` names no stage.
    """

    def __init__(self, declared: Iterable[AnyStage]) -> None:
        from pipeline.config import Config

        self._by_name: dict[str, AnyStage] = {}
        followers: dict[str | None, list[AnyStage]] = {}
        for stage in declared:
            name = stage.name  # of a folder of the run, and of a section of the settings
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise PipelineError(f"stage {name!r}: a name has small letters, digits and _")
            if name in RESERVED or hasattr(Config, name) or name in Config.model_fields:
                raise PipelineError(
                    f"stage {name!r}: the name is taken by settings or by the run's folder"
                )
            if name in self._by_name:
                raise PipelineError(f"stage {stage.name!r} is declared twice; rename one of them")
            self._by_name[stage.name] = stage
            followers.setdefault(stage.after, []).append(stage)
        order: list[AnyStage] = []

        def place(above: str | None) -> None:
            """Append the stages behind one, each with those that follow it."""
            for stage in followers.pop(above, []):
                order.append(stage)
                place(stage.name)

        place(None)
        for above, waiting in followers.items():
            raise PipelineError(
                f"stage {waiting[0].name!r} comes after {above!r}, which is no stage before it; "
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

    def check_request(self, names: object) -> None:
        """Check which stages a run asks for.

        Args:
            names: as the settings have them, not checked yet.

        Raises:
            PipelineError: a name is unknown, or the stages do not go together in this order.
        """
        if not isinstance(names, list | tuple) or not names:
            raise PipelineError(f"stages: expected some of {', '.join(self.names)}")
        for name in names:
            if name not in self.names:
                hint = did_you_mean(str(name), self.names)
                raise PipelineError(
                    f"unknown stage {name!r}: {hint}stages are {', '.join(self.names)}"
                )
        order = [self.names.index(name) for name in names]
        if order != sorted(set(order)):
            right = [name for name in self.names if name in names]
            raise PipelineError(
                f"stages out of order: {','.join(names)}; each once and in this order: "
                + ",".join(right)
            )
        cutting = [name for name in names if self[name].cuts]
        if len(cutting) > 1:
            first, second = cutting[:2]
            raise PipelineError(
                f"stages name both {first} and {second}: {first} lands at the target, nothing is "
                f"left for {second} to cut; take one of them out of --stages"
            )

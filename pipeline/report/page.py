"""The report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.config import Config
from pipeline.device_results import device_table, kept_results
from pipeline.report.accuracy import (
    accuracy_columns,
    further_columns,
    percent,
    verification_cells,
    verification_headings,
)
from pipeline.report.contents import Report
from pipeline.report.cut_charts import cut_charts
from pipeline.report.found_section import found_section
from pipeline.report.made_files import made_files
from pipeline.report.run_facts import command_line, settings_of
from pipeline.report.summary import summarise
from pipeline.report.tables import footnotes
from pipeline.report.text import breakable, size
from pipeline.report.training_curves import training_curves
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.stage_results import StageRecord
from reid_edge.core.io import write_bytes

REPORT_PAGE = "report.html"
TEMPLATES = Path(__file__).parent
RELOAD_SECONDS = 15


@dataclass(frozen=True)
class Running:
    """What a run is doing while its page is written.

    Attributes:
        stage: the stage that runs.
        number: its place among the stages of the run, from 1.
        stages: number of stages.
    """

    stage: str
    number: int
    stages: int


def write_page(
    run: RunDir,
    report: Report,
    records: Mapping[str, StageRecord],
    *,
    running: Running | None = None,
) -> Path:
    """Write ``report.html`` and return its path.

    Args:
        run: where it is written.
        report: what it shows.
        records: of the stages with a result in the report.
        running: what the run does now; the page reloads itself then. None: it is done.
    """
    config: Config | None = None
    if run.config_path.is_file():
        config = load_config(run.config_path, declared=run.stages)
    sections = []
    for name, record in records.items():
        section = run.stages[name].report_section
        if section.template is not None:
            environment = _environment(section.template_folder or TEMPLATES, tuple(section.filters))
            template = environment.get_template(section.template)
            sections.append(Markup(template.render(record=record, report=report)))
    timed = kept_results(run.path)
    text = render(
        "page.html.j2",
        (verification_headings, verification_cells),
        title=report.name,
        report=report,
        running=running,
        reload_seconds=RELOAD_SECONDS if running else 0,
        written=datetime.now(UTC),
        summary=summarise(report, records),
        found=found_section(
            run,
            records,
            images=config is None or config.report.images,
            seed=report.seed,
        ),
        cuts=cut_charts(report.iterations),
        trainings=training_curves(run),
        files=made_files(run.path, report, records),
        settings=settings_of(config) if config is not None else [],
        command=command_line(),
        columns=[*accuracy_columns(report.task, report.measure), *further_columns(report)],
        verified=[row for row in report.rows if row.model.metrics.verification],
        footnotes=footnotes(run, report, records),
        sections=sections,
        devices=device_table(timed) if timed else None,
    )
    path = run.path / REPORT_PAGE
    # The name of a folder may not be valid text; it is shown with escapes.
    write_bytes(path, text.encode(errors="backslashreplace"))
    return path


def render(template: str, filters: Sequence[Callable[..., object]], **values: object) -> str:
    """Return a whole page made of one of the program's templates.

    Args:
        template: its file name.
        filters: functions that it uses, by their names.
        **values: what it shows.
    """
    return _environment(TEMPLATES, tuple(filters)).get_template(template).render(**values)


@cache
def _environment(folder: Path, filters: tuple[Callable[..., object], ...]) -> Environment:
    """Return what renders the templates of a folder, with its filters and the common ones.

    The page is written many times during a run, and its templates are compiled once.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        function.__name__: function for function in (size, percent, breakable, *filters)
    }
    return environment

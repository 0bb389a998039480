"""The report as one self-contained HTML page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report.accuracy import (
    accuracy_columns,
    further_columns,
    percent,
    verification_cells,
    verification_headings,
)
from pipeline.report.contents import Report
from pipeline.report.tables import footnotes
from pipeline.report.text import size
from pipeline.run_dir import RunDir
from pipeline.stage_results import StageRecord
from reid_edge.core.io import write_bytes

REPORT_PAGE = "report.html"
TEMPLATES = Path(__file__).parent


def write_page(run: RunDir, report: Report, records: Mapping[str, StageRecord]) -> Path:
    """Write ``report.html`` and return its path.

    Args:
        run: where it is written.
        report: what it shows.
        records: of the stages with a result in the report.
    """
    page = _environment(TEMPLATES, (verification_headings, verification_cells))
    sections = []
    for name, record in records.items():
        section = run.stages[name].report_section
        if section.template is not None:
            environment = _environment(section.template_folder or TEMPLATES, section.filters)
            template = environment.get_template(section.template)
            sections.append(Markup(template.render(record=record, report=report)))
    text = page.get_template("page.html.j2").render(
        report=report,
        columns=[*accuracy_columns(report.task), *further_columns()],
        verified=[row for row in report.rows if row.model.metrics.verification],
        footnotes=footnotes(run, report, records),
        sections=sections,
    )
    path = run.path / REPORT_PAGE
    # The name of a folder may not be valid text; it is shown with escapes.
    write_bytes(path, text.encode(errors="backslashreplace"))
    return path


def _environment(folder: Path, filters: Sequence[Callable[..., object]]) -> Environment:
    """Return what renders the templates of a folder, with its filters and the common ones."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in (size, percent, *filters)}
    return environment

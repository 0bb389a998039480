"""The run's story as one page that needs nothing but itself."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.report.accuracy import (
    accuracy_columns,
    further_columns,
    percent,
    verification_cells,
    verification_headings,
)
from pipeline.report.tables import footnotes, size
from pipeline.run_dir import RunDir
from reid.files import write_bytes

REPORT_PAGE = "report.html"


def write_page(run: RunDir, story: dict[str, Any]) -> Path:
    """Write ``report.html`` and return its path."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (size, percent, verification_headings, verification_cells):
        environment.filters[function.__name__] = function
    template = environment.get_template("page.html.j2")
    text = template.render(
        story=story,
        columns=[*accuracy_columns(story["task"]), *further_columns()],
        verified=[row for row in story["rows"] if row["verification"]],
        footnotes=footnotes(story),
    )
    path = run.path / REPORT_PAGE
    write_bytes(path, text.encode())
    return path

"""The run's story as one page that needs nothing but itself."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    environment.filters["size"] = size
    template = environment.get_template("page.html.j2")
    text = template.render(story=story, footnotes=footnotes(story))
    path = run.path / REPORT_PAGE
    write_bytes(path, text.encode())
    return path

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
from pipeline.report.benchmark import (
    benchmark_footnotes,
    threads_text,
    timing_headings,
    timing_text,
)
from pipeline.report.files import FILE_HEADINGS, file_cells
from pipeline.report.pareto import pareto_image
from pipeline.report.tables import footnotes, size
from pipeline.run_dir import RunDir
from reid_edge.core.io import write_bytes

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
    functions = (
        size,
        percent,
        verification_headings,
        verification_cells,
        file_cells,
        threads_text,
        timing_text,
    )
    for function in functions:
        environment.filters[function.__name__] = function
    template = environment.get_template("page.html.j2")
    text = template.render(
        story=story,
        columns=[*accuracy_columns(story["task"]), *further_columns()],
        verified=[row for row in story["rows"] if row["verification"]],
        footnotes=footnotes(story),
        benchmark=_benchmark(story),
        file_headings=FILE_HEADINGS,
    )
    path = run.path / REPORT_PAGE
    # A folder's name may be no text, and the browser has to show something.
    write_bytes(path, text.encode(errors="backslashreplace"))
    return path


def _benchmark(story: dict[str, Any]) -> dict[str, Any] | None:
    benchmark = story["benchmark"]
    if benchmark is None:
        return None
    return {
        "rows": benchmark["rows"],
        "headings": timing_headings(benchmark),
        "image": pareto_image(benchmark),
        "lines": benchmark_footnotes(benchmark),
    }

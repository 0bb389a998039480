"""The pages and parts of pages that are made from the code: ``python -m docs.generate``.

The settings, the commands and the names that can be chosen are whole pages. The file
``reid_edge/models/complexity.json`` has the counts that ``reid-edge models`` prints.

In other pages:

- A code block behind a comment such as ``<!-- examples/embed_images.py -->`` is the content of that
  file.
- A table between ``<!-- fields: pipeline.stage_results.StageRecord -->`` and ``<!-- end -->`` has
  the attributes of that class, with the texts of its docstring.
"""

import contextlib
import dataclasses
import inspect
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config import config_class
from pipeline.settings_io import section_of
from pipeline.stages import STAGES
from prune.criteria import CRITERIA
from quantize.exporters import EXPORTERS
from reid_edge.cli import main as cli
from reid_edge.data.readers import READERS
from reid_edge.models import ARCHITECTURES
from reid_edge.models.complexity import COUNTED, COUNTED_SIZE, measure_complexity

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MADE = "<!-- Made by: python -m docs.generate -->\n"
COLUMNS = "100"  # of help texts
EXAMPLE = re.compile(r"(<!-- (examples/[\w./]+) -->\n```\w*\n)(.*?)(```\n)", re.DOTALL)
FIELDS = re.compile(r"(<!-- fields: ([\w.]+) -->\n)(.*?)(<!-- end -->\n)", re.DOTALL)
ROLE = re.compile(r":\w+:`~?\.?([^`]+)`")  # :class:`pipeline.stage.Stage`

SETTINGS = """# Settings

Every setting of a configuration file, with its default. On the command line: `key.path=value`.
A file can refine another one, which it names as `extends:`. A default of `null` means none.

"""
COMMANDS = """# Commands

In a checkout `python -m reid_edge` is `reid-edge`, `python run_pipeline.py` is `reid-edge run`,
and `python -m pipeline.search` is `reid-edge search`.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | `check`: the data set has problems |
| 2 | bad input; one line on standard error says what is wrong and what to do |
| 130, 143 | interrupted by SIGINT or SIGTERM; the same command resumes |

"""
NAMES = """# Names

The names that settings and options choose from. Installed packages can add names through entry
points.

"""
ARCHITECTURES_TEXT = (
    "`model.architecture`, `prune.target`, `transfer.target`. `reid-edge models` prints parameters "
    "and operations."
)
ARCHITECTURES_HEAD = ("architecture", "family", "what it is", "embedding", "also built by")


def main() -> None:
    """Write the pages."""
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")


def pages() -> dict[Path, str]:
    """Return what every page with a part made from the code has to hold."""
    whole = {DOCS / "reference" / name: MADE + make() for name, make in PAGES.items()}
    others = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
    texts = {path: path.read_text(encoding="utf-8") for path in others if path not in whole}
    made = {path: with_fields(with_examples(text)) for path, text in texts.items()}
    has_parts = {path: EXAMPLE.search(text) or FIELDS.search(text) for path, text in texts.items()}
    parts = {path: text for path, text in made.items() if has_parts[path]}
    return whole | parts | {COUNTED: complexity_table()}


def complexity_table() -> str:
    """Return the file with parameters and operations of all architectures of this program."""
    counts = {name: measure_complexity(name, *COUNTED_SIZE) for name in ARCHITECTURES}
    rows = [
        f"{json.dumps(name)}: {json.dumps(dataclasses.asdict(found))}"
        for name, found in counts.items()
    ]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def with_examples(text: str) -> str:
    """Put the content of the files in ``examples/`` into a page's code blocks."""

    def content(found: re.Match[str]) -> str:
        return found[1] + (ROOT / found[2]).read_text(encoding="utf-8") + found[4]

    return EXAMPLE.sub(content, text)


def with_fields(text: str) -> str:
    """Put the attributes of result classes into a page's tables."""

    def content(found: re.Match[str]) -> str:
        module, _, name = found[2].rpartition(".")
        rows = fields(getattr(import_module(module), name))
        return found[1] + "\n" + table(("key", "value"), rows) + "\n\n" + found[4]

    return FIELDS.sub(content, text)


def fields(described: type) -> list[tuple[str, str]]:
    """Return the fields of a pydantic model or a dataclass with the texts of their docstrings.

    Raises:
        KeyError: a field has no text.
    """
    if issubclass(described, BaseModel):
        names = list(described.model_fields)
    else:
        assert dataclasses.is_dataclass(described), "results are of these two kinds"
        names = [field.name for field in dataclasses.fields(described)]
    texts: dict[str, str] = {}
    for one in reversed(described.__mro__):
        section = inspect.cleandoc(one.__doc__ or "").partition("Attributes:\n")[2]
        texts |= dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE))
    return [(name, _markdown(texts[name])) for name in names]


def _markdown(text: str) -> str:
    """Return a text of a docstring as the cell of a table."""
    line = ROLE.sub(r"`\1`", " ".join(text.split()))
    line = re.sub(r"\bNone\b", "`null`", line.replace("``", "`"))
    return line.removesuffix(".").replace("|", "\\|")


def settings_page() -> str:
    """Return the page of settings: a table for those of the run, and one for each section."""
    tables: dict[str, list[str]] = {}
    for key, default, text in _settings(config_class(), "", {}):
        section = key.partition(".")[0] if "." in key else ""
        tables.setdefault(section, []).append(f"| `{key}` | `{default}` | {text} |")
    # The settings of the run itself are spread over its fields; they come first.
    parts = []
    for section, rows in sorted(tables.items(), key=lambda item: item[0] != ""):
        head = f"## {section}\n\n" if section else ""
        parts.append(f"{head}| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows))
    return SETTINGS + "\n\n".join(parts) + "\n"


def _settings(
    model: type[BaseModel], prefix: str, defaults: Mapping[str, object]
) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and description of every setting below a section."""
    for name, entry in model.model_fields.items():
        section, value = (
            section_of(model, name),
            defaults.get(name, entry.get_default(call_default_factory=True)),
        )
        if section is not None:
            assert isinstance(value, BaseModel | dict)
            nested = value if isinstance(value, dict) else value.model_dump(mode="json")
            yield from _settings(section, f"{prefix}{name}.", nested)
        else:
            assert value is not PydanticUndefined, f"{prefix}{name} has no default"
            yield prefix + name, json.dumps(value), (entry.description or "").replace("|", "\\|")


def commands_page() -> str:
    """Return the page of commands: the help text of each."""
    names = [*cli.OTHER_COMMANDS, *cli.COMMANDS]
    parts = [f"## reid-edge\n\n```\n{help_text()}```\n"]
    parts += [f"## reid-edge {name}\n\n```\n{help_text(name)}```\n" for name in names]
    return COMMANDS + "\n".join(parts)


def help_text(*command: str) -> str:
    """Return what a command prints with ``--help``."""
    printed = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": COLUMNS}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        cli.main([*command, "--help"])
    return printed.getvalue()


def names_page() -> str:
    """Return the page of all names that a setting or an option can choose from."""
    parts = [
        f"## {title}\n\n{text}\n\n{table(headings, rows)}"
        for title, text, headings, rows in (
            ("Stages", "`stages`, in their order.", ("stage", "what it does"),
             [(name, stage.summary) for name, stage in STAGES.items()]),
            ("Architectures", ARCHITECTURES_TEXT, ARCHITECTURES_HEAD, _architectures()),
            ("Criteria", "`prune.criterion`. [Criteria](criteria.md) says how each works.",
             ("criterion", "which channels stay", "needs"),
             [(n, c.description, c.needs.replace("_", " ")) for n, c in CRITERIA.items()]),
            ("Files", "`export.files`. [Export files](../guide/export.md) says what each is for.",
             ("file", "what it is", "meant for"),
             [(name, e.description, e.meant_for) for name, e in EXPORTERS.items()]),
            ("Data formats", "`data.format`. [Data formats](data-formats.md) describes each.",
             ("format", "files in the folder", "publication"),
             [(name, reader.layout, reader.publication) for name, reader in READERS.items()]),
        )
    ]  # fmt: skip
    return NAMES + "\n\n".join(parts) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is a name in code."""
    lines = [" | ".join(headings), "|".join(["---"] * len(headings))]
    lines += [" | ".join([f"`{name}`", *others]) for name, *others in rows]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def _architectures() -> Iterator[tuple[str, ...]]:
    for name, declared in ARCHITECTURES.items():
        others = ", ".join(declared.published_by)
        yield name, declared.family, declared.description, str(declared.embedding_dim), others


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "commands.md": commands_page,
    "names.md": names_page,
}


if __name__ == "__main__":
    main()

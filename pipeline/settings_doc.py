"""Every setting as a Markdown table: ``python -m pipeline.settings_doc > docs/settings.md``."""

import json
import sys
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config import Config
from pipeline.settings_io import section_of

HEAD = """# Settings

Every setting of a configuration file, with its default. On the command line: `key.path=value`.
A file may name another one beside it as `extends:` and refine it. This page is made by
`python -m pipeline.settings_doc`.

| setting | default | what it is |
|---|---|---|
"""


def settings_page() -> str:
    """Return the page."""
    rows = (f"| `{key}` | `{default}` | {text} |" for key, default, text in _rows(Config, "", {}))
    return HEAD + "\n".join(rows) + "\n"


def _rows(
    model: type[BaseModel], prefix: str, defaults: dict[str, object]
) -> Iterator[tuple[str, str, str]]:
    for name, entry in model.model_fields.items():
        section, value = section_of(model, name), defaults.get(name, entry.default)
        if section is not None:
            assert isinstance(value, BaseModel | dict)
            nested = value if isinstance(value, dict) else value.model_dump(mode="json")
            yield from _rows(section, f"{prefix}{name}.", nested)
        else:
            assert value is not PydanticUndefined, f"{prefix}{name} has no default"
            yield prefix + name, json.dumps(value), (entry.description or "").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(settings_page())

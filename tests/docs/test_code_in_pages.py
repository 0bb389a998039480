"""Modules, names and files that the documentation mentions are there."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from pipeline.settings_io import setting_keys
from prune.criteria import CRITERIA
from quantize.exporters import EXPORTERS
from reid_edge.data.readers import READERS
from reid_edge.models import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("reid_edge", "pipeline", "prune", "quantize", "examples", "benchmarks")
FOLDERS = (*PACKAGES, "tests", "configs")
GROUPS = {
    registry.group for registry in (CRITERIA, EXPORTERS, READERS, ARCHITECTURES)
}  # of entry points


def exists(dotted: str) -> bool:
    """Tell whether a dotted name is a module, or something in one."""
    module, _, name = dotted.rpartition(".")
    try:
        import_module(dotted)
    except ModuleNotFoundError:
        return bool(module) and hasattr(import_module(module), name)
    return True


def by_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_imports_in_code_are_there(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
                for alias in node.names:
                    assert exists(f"{node.module}.{alias.name}"), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_names_in_the_text_are_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    keys = tuple(setting_keys())
    for name in re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`", text):
        if name in GROUPS:
            continue
        # prune and quantize are packages and sections of the settings.
        if not any(key == name or key.startswith(f"{name}.") for key in keys):
            assert exists(name), name


def test_objects_of_the_api_page_are_there() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    names = re.findall(r"^::: (\S+)", page, re.MULTILINE)
    assert names
    for name in names:
        assert exists(name), name


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_in_the_text_are_there(page: Path) -> None:
    pattern = rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/[\w/.-]+\.(?:py|yaml|sh|c|js)\b"
    for named in re.findall(pattern, page.read_text()):
        assert (ROOT / named).is_file(), named

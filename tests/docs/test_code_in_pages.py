"""Modules, names and files that the documentation mentions are there."""

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import reid_edge
from pipeline.settings_io import setting_keys
from pipeline.stages import STAGES
from prune.criteria import CRITERIA
from quantize.exporters import EXPORTERS
from reid_edge.data.readers import READERS
from reid_edge.models import ARCHITECTURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("reid_edge", "pipeline", "prune", "quantize", "examples", "benchmarks")
FOLDERS = (*PACKAGES, "tests", "configs", "locks")
GROUPS = {
    registry.group for registry in (STAGES, CRITERIA, EXPORTERS, READERS, ARCHITECTURES)
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


def nodes(page: Path) -> Iterator[ast.AST]:
    """Yield what the Python code of a page is made of."""
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from ast.walk(ast.parse(block))


def public_name(node: ast.AST) -> str | None:
    """Return NAME of ``reid_edge.NAME``, or None for other code."""
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return None
    return node.attr if node.value.id == "reid_edge" else None


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_imports_in_code_are_there(page: Path) -> None:
    for node in nodes(page):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGES):
            for alias in node.names:
                assert exists(f"{node.module}.{alias.name}"), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_code_uses_the_public_api_as_it_is(page: Path) -> None:
    for node in nodes(page):
        if (name := public_name(node)) is not None:
            assert name in reid_edge.__all__, name
        if isinstance(node, ast.Call) and (name := public_name(node.func)) is not None:
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(getattr(reid_edge, name)).bind(*node.args, **keywords)


def test_the_page_on_other_models_needs_one_import_of_this_project() -> None:
    page = ROOT / "docs" / "guide" / "own-model.md"
    imports = [node for node in nodes(page) if isinstance(node, ast.Import | ast.ImportFrom)]
    shown = [ast.unparse(node) for node in imports]
    assert [line for line in shown if line.split()[1].startswith(PACKAGES)] == ["import reid_edge"]


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


def test_the_package_with_an_entry_point_is_complete() -> None:
    page = (ROOT / "docs" / "guide" / "extend" / "index.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (package,) = map(tomllib.loads, blocks)
    assert {"name", "version"} < package["project"].keys()
    for group, points in package["project"]["entry-points"].items():
        assert group in GROUPS
        for name, entry in points.items():
            module, _, attribute = entry.partition(":")
            assert package["tool"]["setuptools"]["py-modules"] == [module]
            assert getattr(import_module(f"examples.{module}"), attribute).name == name


def test_objects_of_the_api_page_are_there() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text()
    names = re.findall(r"^::: (\S+)", page, re.MULTILINE)
    assert names
    for name in names:
        assert exists(name), name


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_files_in_the_text_are_there(page: Path) -> None:
    pattern = rf"(?<![\w/.])(?:{'|'.join(FOLDERS)})/[\w/.-]+\.(?:py|yaml|sh|c|js|txt)\b"
    for named in re.findall(pattern, page.read_text()):
        assert (ROOT / named).is_file(), named

"""Every relative link of the documentation leads to a file, and every anchor to a heading."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = sorted([*DOCS.rglob("*.md"), *(p for p in map(ROOT.joinpath, OUTSIDE) if p.is_file())])
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|`[^`]*`)*\]\(([^()\s]+)\)")


def without_code(text: str) -> str:
    """Drop code blocks; in them a comment is no heading."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings that GitHub and the site both give."""
    site: Counter[str] = Counter()
    found = set()
    for title in re.findall(r"^#+ +(.+?) *$", without_code(page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title)
        kept = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        github, mkdocs = kept.replace(" ", "-"), re.sub(r"[-\s]+", "-", kept)
        if site[mkdocs] == 0 and github == mkdocs:
            found.add(mkdocs)
        site[mkdocs] += 1
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.is_file(), f"{page.relative_to(ROOT)}: {link} leads to no file"
        if DOCS in page.parents:  # the site holds no other files
            assert DOCS in target.parents, f"{page.relative_to(ROOT)}: {link} leaves docs/"
        if anchor:
            assert anchor in anchors(target), f"{page.relative_to(ROOT)}: {link}: no such heading"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    listed = re.findall(r"[\w/.-]+\.md", yaml.safe_dump(read_navigation()))
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_the_front_page_leads_to_every_page_of_the_guide() -> None:
    linked = set(LINK.findall((DOCS / "index.md").read_text()))
    pages = {f"guide/{path.name}" for path in (DOCS / "guide").glob("*.md")}
    assert pages <= linked


def read_navigation() -> object:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]


def test_files_that_the_code_names_are_there() -> None:
    """Messages, comments and configurations name pages by their paths."""
    for folder in ("pipeline", "reid_edge", "prune", "quantize", "benchmarks", "configs", "."):
        pattern = "*" if folder == "." else "**/*"
        for path in (ROOT / folder).glob(pattern):
            if path.suffix in (".py", ".yaml", ".txt", ".sh") or path.name == "Makefile":
                for named in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
                    assert (ROOT / named).is_file(), f"{path.relative_to(ROOT)}: {named}"

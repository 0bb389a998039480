"""A page of the program, read by the standard library's parser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}


@dataclass
class Page:
    """What a page holds."""

    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    reloads: bool = False
    text: str = ""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.page.ids.append(str(found["id"]))
        if tag == "a":
            self.page.links.append(str(found["href"]).removeprefix("#"))
        if tag == "body" and found.get("data-reload"):
            self.page.reloads = True
        if found.get("role") == "img" and not found.get("aria-label"):
            self.page.unnamed.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG without content."""

    def handle_endtag(self, tag: str) -> None:
        # Rows and cells of tables are closed like all others in these pages.
        if not self.open or self.open[-1] != tag:
            self.page.unclosed.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.page.text += data


def parse_page(text: str) -> Page:
    """Parse a page; ``unclosed`` names elements that do not end where they must."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    parser.page.unclosed += parser.open
    return parser.page

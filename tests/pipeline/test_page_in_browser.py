"""The pages of the program in headless Chromium: `make test-page` runs these.

Environment variables: ``CHROMIUM``, the browser's file, if it is not on the path; ``AXE_CORE``, the
file axe.min.js of the npm package axe-core.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.report.comparison import compare_runs, read_runs, write_comparison
from pipeline.report.contents import collect
from pipeline.report.page import Running, write_page
from pipeline.run_dir import RunDir
from pipeline.settings_io import load_config
from pipeline.stage_results import Benchmark, BenchmarkResult, BenchmarkRow
from quantize.measurements import Machine, Timing
from tests.pipeline.records import make_evaluation, make_record

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed; `make test-page` installs it"
)

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
AXE_CORE = os.environ.get("AXE_CORE")

pytestmark = [
    pytest.mark.medium,
    pytest.mark.usefixtures("short_networks"),
    pytest.mark.skipif(
        not CHROMIUM, reason="neither chromium nor google-chrome is on PATH; or set CHROMIUM=FILE"
    ),
]

SECTIONS = ["stages", "found", "cuts", "trainings", "measurements", "files", "settings"]
PAGES = ["report", "comparison"]
# What is wider than its box and cannot be scrolled to, and text that a picture cuts off. The link
# that skips the navigation is outside the window until it has the focus.
CUT_OFF = """() => {
  const found = [], right = document.documentElement.clientWidth;
  const tell = (what, element) => {
    const text = element.textContent.trim().slice(0, 60);
    found.push(`${what}: ${element.tagName} ${element.getAttribute("class")} ${text}`);
  };
  for (const element of document.body.querySelectorAll("*:not(.skip):not(.tip):not(svg *)")) {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height) continue;
    const style = getComputedStyle(element);
    const scrolls = ["auto", "scroll"].includes(style.overflowX);
    if (!element.parentElement.closest(".scroll") && (box.left < -0.5 || box.right > right + 0.5))
      tell("outside the window", element);
    if (!scrolls && style.display !== "inline" && element.tagName !== "svg"
        && element.scrollWidth > element.clientWidth + 1) tell("wider than its box", element);
  }
  for (const text of document.querySelectorAll("svg text")) {
    const box = text.getBoundingClientRect(), image = text.closest("svg").getBoundingClientRect();
    if (box.width && (box.left < image.left - 1 || box.right > image.right + 1
        || box.top < image.top - 1 || box.bottom > image.bottom + 1))
      tell("outside its picture", text);
  }
  return found;
}"""
OPEN_ALL = "document.querySelectorAll('details').forEach((part) => { part.open = true; })"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


def write_full_page(folder: Path, finished: Path, *, running: Running | None = None) -> Path:
    """Write the page of a run with all that it can show, as if its files had been measured."""
    run = RunDir(shutil.copytree(finished, folder))
    config = load_config(run.config_path)
    files = ("train/checkpoint.pt", "finetune/checkpoint.pt", "quantize/int8.pt",
             "export/float.onnx", "export/int8.onnx", "export/openvino_int8.xml")  # fmt: skip
    timings = [(30.0, 1, 1), (200.0, 8, 1), (9.0, 1, 4)]
    rows = tuple(
        BenchmarkRow(
            name=name, kind="onnx", engine=None, meant_for="x86-64 with ONNX Runtime, and ARM",
            input_size=(64, 32), bytes=900_000 // place, metrics=make_evaluation(0.5 - place / 50),
            peak_bytes=30_000_000, timings=tuple(
                Timing(batch, threads, ms / place, ms / place, ms / place, ms, 1.0 * place, 40.0)
                for ms, batch, threads in timings
            ),
        )
        for place, name in enumerate(files, start=1)
    )  # fmt: skip
    flags = ("avx", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512_vnni", "amx_int8")
    machine = Machine("A processor of some long name @ 2.00GHz", "x86_64", flags, 8, 1, "2.14.0",
                      "1.30", None, None, "", "", ())  # fmt: skip
    records = run.records() | {
        "benchmark": make_record(
            "benchmark",
            result=BenchmarkResult(benchmark=Benchmark(machine=machine, rounds=20, rows=rows)),
            settings={"evaluation": {"distance": "cosine"}},
        )
    }
    return write_page(run, collect(config, run), records, running=running)


@pytest.fixture(scope="module")
def pages(
    browser: "Browser", whole_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The page of a finished run and the page that compares two, by name."""
    folder = tmp_path_factory.mktemp("pages")
    write_comparison(
        folder / "comparison.html",
        compare_runs(read_runs([whole_run, shutil.copytree(whole_run, folder / "other")])),
    )
    return {
        "report": write_full_page(folder / "run", whole_run),
        "comparison": folder / "comparison.html",
    }


Opener = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Opener]:
    """Open a page; at the end it must have had no error and must have asked for nothing."""
    opened = []
    messages: list[str] = []
    requests: list[str] = []
    shown: list[str] = []

    def open_it(
        path: Path, *, width: int = 1400, scheme: str = "light", clock: bool = False
    ) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        context.set_default_timeout(120_000)  # a busy machine may be slow
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        if clock:
            page.clock.install()
        shown.append(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_it
    for context in opened:
        context.close()
    assert messages == []
    assert [url for url in requests if url not in shown and not url.startswith("data:")] == []


def cells(table: "Locator", column: int) -> list[str]:
    """Return the text of a column, from the top."""
    found: list[str] = table.locator(f"tr td:nth-child({column})").all_inner_texts()
    return found


def test_every_section_is_there_and_every_link_leads_to_one(
    pages: dict[str, Path], open_page: Opener
) -> None:
    page = open_page(pages["report"])
    sections = page.locator("main > section")
    assert [one.get_attribute("id") for one in sections.all()] == SECTIONS
    links = page.locator("nav a")
    assert [one.get_attribute("href") for one in links.all()] == [f"#{name}" for name in SECTIONS]
    for place, link in enumerate(links.all()):
        section = sections.nth(place)
        assert section.is_visible()
        assert section.locator("h2").first.inner_text().strip()
        link.click()
        box = section.locator("h2").first.bounding_box()
        assert box is not None
        assert -1 <= box["y"] < 900, f"{SECTIONS[place]}: the link does not lead there"
        page.evaluate("scrollTo(0, 0)")


def test_a_click_on_a_heading_sorts_the_layers(pages: dict[str, Path], open_page: Opener) -> None:
    page = open_page(pages["report"])
    table = page.locator("#cuts details[open] table")
    names = cells(table, 1)
    for heading, column in (("parameters", 7), ("MACs", 8)):
        head, before = table.locator("th").nth(column - 1), cells(table, column)
        for order in ("ascending", "descending"):
            head.get_by_role("button", name=heading).click()
            assert head.get_attribute("aria-sort") == order
            assert table.locator("th[aria-sort]").count() == 1
            shown = [
                float(text.replace(",", "").removesuffix(" M")) for text in cells(table, column)
            ]
            assert shown == sorted(shown, reverse=order == "descending")
            assert sorted(cells(table, column)) == sorted(before)
            assert cells(table, 1) != names
    table.get_by_role("button", name="layer").click()
    assert cells(table, 1) == page.evaluate(
        "(names) => names.sort((a, b) => a.localeCompare(b))", names
    )


def test_a_finished_page_does_not_reload_itself(
    pages: dict[str, Path], open_page: Opener, whole_run: Path, tmp_path: Path
) -> None:
    loads: list[str] = []
    page = open_page(pages["report"], clock=True)
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    assert page.locator("body").get_attribute("data-reload") is None
    assert page.get_by_role("button", name="Pause").count() == 0
    page.clock.run_for(60_000)
    page.wait_for_timeout(2000)  # a reload is not at once on a busy machine
    assert loads == []

    running = Running("prune", 2, 4)
    written = write_full_page(tmp_path / "run", whole_run, running=running)
    page = open_page(written, clock=True)
    with page.expect_navigation():
        page.clock.run_for(16_000)
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(60_000)
    page.wait_for_timeout(2000)  # a reload is not at once on a busy machine
    assert loads == []


def luminance(colour: str) -> float:
    """Return the relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 1000, 390])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_off_and_text_can_be_read(
    pages: dict[str, Path], open_page: Opener, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    page = open_page(pages[name], width=width, scheme=scheme)
    page.screenshot(path=tmp_path / "first.png")
    page.evaluate(OPEN_ALL)
    page.screenshot(path=tmp_path / "whole.png", full_page=True)
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate(CUT_OFF) == []
    back, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    dark, light = sorted((luminance(back), luminance(text)))
    assert (luminance(back) == dark) is (scheme == "dark")
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_keyboard_reaches_the_headings_and_sorts(
    pages: dict[str, Path], open_page: Opener
) -> None:
    page = open_page(pages["report"])
    layers = "document.activeElement.matches('#cuts details[open] th:nth-child(7) button')"
    for _ in range(300):
        page.keyboard.press("Tab")
        if page.evaluate(layers):
            break
    assert page.evaluate(layers)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "ascending"


def test_each_box_that_scrolls_has_a_name_of_its_own(
    pages: dict[str, Path], open_page: Opener
) -> None:
    page = open_page(pages["report"])
    names = page.locator(".scroll").evaluate_all("(all) => all.map((e) => e.ariaLabel)")
    assert len(names) > 10
    assert len(set(names)) == len(names), sorted(names)
    assert {"Stages", "Benchmark", "All files"} <= set(names)


def test_the_names_of_layers_are_on_one_line_where_there_is_room(
    pages: dict[str, Path], open_page: Opener
) -> None:
    page = open_page(pages["report"], width=1400)
    page.evaluate(OPEN_ALL)
    cells = page.locator("#cuts details tr td:first-child")
    assert cells.count() > 10
    breaks = "(all) => all.flatMap((e) => [...e.querySelectorAll('wbr')].map((b) => "
    breaks += "getComputedStyle(b).display))"
    assert set(cells.evaluate_all(breaks)) == {"none"}
    table = page.locator("#cuts details .scroll").last
    assert table.evaluate("(e) => e.scrollWidth <= e.clientWidth")


def test_paper_has_all_sections_and_all_of_the_tables(
    pages: dict[str, Path], open_page: Opener, tmp_path: Path
) -> None:
    page = open_page(pages["report"], width=718)  # A4 at 96 pixels an inch, less margins of 1 cm
    assert page.locator("details:not([open])").count() > 0
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    for name in SECTIONS:
        assert page.locator(f"#{name}").is_visible(), name
    assert not page.locator("nav").is_visible()
    hidden = "(e) => e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1"
    assert page.locator(".scroll").evaluate_all(
        f"(all) => all.filter({hidden}).map((e) => e.getAttribute('aria-label'))"
    ) == []  # fmt: skip
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


@pytest.mark.skipif(
    not AXE_CORE, reason="AXE_CORE=FILE names no axe.min.js (`npm pack axe-core` downloads it)"
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(
    pages: dict[str, Path], open_page: Opener, name: str, scheme: str
) -> None:
    page = open_page(pages[name], scheme=scheme)
    page.evaluate(OPEN_ALL)
    page.add_script_tag(path=AXE_CORE)
    result = page.evaluate("axe.run()")
    assert len(result["passes"]) > 10
    found = [
        (one["id"], one["nodes"][0]["html"])
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert found == []

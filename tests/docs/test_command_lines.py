"""Every command that the documentation shows is understood by the program that it names."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.config import config_class
from pipeline.settings_io import load_config, setting_keys
from pipeline.shipped_configs import find_config
from reid_edge.cli import main as cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Of every language: the end of one block would else be taken for the start of the next.
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = ("", "bash", "sh", "console")
STARTS = {
    "python run_pipeline.py": ("run",),
    "reid-edge": (),
    "python -m reid_edge": (),
    "python -m pipeline.search": ("search",),
}


# In text, `name.suffix` is a file.
FILE_SUFFIXES = (
    "md", "py", "pt", "pth", "tar", "json", "yaml", "onnx", "data", "html", "rec", "csv",
    "so", "c", "h", "weights",
)  # fmt: skip


# Settings of lines with a name that an example registers are known only then; tests/examples runs
# the examples.
EXAMPLES = re.findall(
    r'^    name="([\w-]+)"',
    "\n".join(path.read_text() for path in (ROOT / "examples").glob("*.py")),
    re.MULTILINE,
)


class ParsedError(Exception):
    """A command line was parsed; nothing of it runs."""


def commands(page: Path) -> Iterator[str]:
    """Yield the command lines of a page: those in code blocks, and those with options in text."""
    text = page.read_text()
    for language, block in BLOCK.findall(text):
        if language in SHELL:
            yield from filter(is_ours, whole_lines(block))
    for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", BLOCK.sub("", text)):
        if "..." not in code and (" --" in code or "=" in code):
            yield from filter(is_ours, [" ".join(code.split())])


def whole_lines(block: str) -> Iterator[str]:
    """Yield the lines of a code block; one that ends within quotes continues in the next."""
    started = ""
    for line in block.replace("\\\n", " ").splitlines():
        started += line if not started else f" {line.strip()}"
        if started.partition(" #")[0].count("'") % 2 == 0:
            yield started.strip().removeprefix(".venv/bin/")
            started = ""


def is_ours(line: str) -> bool:
    return line.startswith(tuple(STARTS)) and "COMMAND" not in line


ALL = [
    pytest.param(line, id=f"{page.name}: {line[:60]}")
    for page in PAGES
    if page.name != "commands.md"
    for line in dict.fromkeys(commands(page))
]


def arguments_of(line: str) -> list[str]:
    start = next(start for start in STARTS if line.startswith(start))
    return [*STARTS[start], *shlex.split(line.removeprefix(start), comments=True)]


@pytest.mark.parametrize("line", ALL)
def test_a_command_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = arguments_of(line)
    if set(arguments) & {"-h", "--help", "--version"}:
        return
    options = parse(arguments, monkeypatch, capsys)
    registered = any(name in line for name in EXAMPLES)
    if arguments[0] in ("run", "search") and not registered:
        check_settings(options, tmp_path)


def parse(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> argparse.Namespace:
    """Let the real parser read a command line, and stop there."""

    def stop(method: str) -> None:
        real = getattr(argparse.ArgumentParser, method)

        def parsed(parser: argparse.ArgumentParser, given: list[str]) -> None:
            raise ParsedError(real(parser, given))

        monkeypatch.setattr(argparse.ArgumentParser, method, parsed)

    with monkeypatch.context():
        stop("parse_args")
        stop("parse_intermixed_args")
        with pytest.raises((ParsedError, SystemExit)) as caught:
            cli.main(arguments)
    assert isinstance(caught.value, ParsedError), capsys.readouterr().err
    options = caught.value.args[0]
    assert isinstance(options, argparse.Namespace)
    return options


def check_settings(options: argparse.Namespace, folder: Path) -> None:
    """Check that configuration, stages and settings of a command are known."""
    if options.config is None:
        path = folder / "config.yaml"
        path.write_text("{}")
    else:
        path = find_config(options.config)
    load_config(path, options.overrides, options.stages)


def test_every_command_is_found() -> None:
    """Those in blocks that follow a block of another language too."""
    for page in PAGES:
        pattern = r"^(?:\.venv/bin/)?(python run_pipeline\.py [^'\\\n#]*)"
        ours = [line.strip() for line in re.findall(pattern, page.read_text(), re.MULTILINE)]
        found = list(commands(page))
        missing = [one for one in ours if not any(line.startswith(one) for line in found)]
        assert missing == [], page.name


def test_settings_in_the_text_are_known() -> None:
    """``section.key`` in text names a setting, a section, or an attribute in Python."""
    sections = set(config_class().model_fields)
    known = set(setting_keys())
    above = {key.rpartition(".")[0] for key in known} | {
        ".".join(key.split(".")[:n]) for key in known for n in (1, 2, 3)
    }
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(r"`([a-z_0-9.]+)(?:=[^`]*)?`", text):
            first, _, rest = code.partition(".")
            if first not in sections or not rest or rest.rpartition(".")[2] in FILE_SUFFIXES:
                continue
            if (ROOT / first / rest.partition(".")[0]).with_suffix(".py").is_file():
                continue  # a module of a package that is called as a section is
            assert code in known | above, f"{page.relative_to(ROOT)}: {code} is no setting"


def test_configurations_in_the_documentation_are_there() -> None:
    for page in PAGES:
        for named in re.findall(r"(?<![\w/])configs/\w+\.yaml", page.read_text()):
            assert (ROOT / named).is_file(), f"{page.relative_to(ROOT)}: {named}"


def test_yaml_in_the_documentation_is_a_configuration(tmp_path: Path) -> None:
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            content = yaml.safe_load(block)
            if "extend" in page.parts:  # names that an example registers
                continue
            if set(content) <= set(config_class().model_fields) | {"extends"}:
                path = tmp_path / "config.yaml"
                path.write_text(block)
                load_config(path)


def test_benchmarks_in_the_documentation_are_there() -> None:
    for page in PAGES:
        for named in re.findall(r"python -m (benchmarks\.[\w.]+)", page.read_text()):
            assert (ROOT / (named.replace(".", "/") + ".py")).is_file(), f"{page.name}: {named}"

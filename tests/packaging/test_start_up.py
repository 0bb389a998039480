"""Help texts and bad arguments come at once: nothing that is slow to import is imported."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from reid_edge.cli.main import COMMANDS

pytestmark = pytest.mark.medium

ROOT = Path(__file__).resolve().parents[2]
SLOW = (
    "torch", "torchvision", "lightning", "nni", "onnx", "onnxruntime", "faiss", "scipy", "sklearn",
    "pandas", "numpy", "h5py", "jinja2", "PIL", "rich.table",
)  # fmt: skip
# Settings that cause a line of the log, which must not import rich.
FACE = ("--config", "face")
NO_LOSSES = ("train.losses.cross_entropy=0", "train.losses.triplet=0", "train.losses.circle=0")
# Runs commands in forked processes: what they import is imported there, or here and seen there.
FORKS = """
import importlib, json, os, sys
import pipeline.command, pipeline.config, pipeline.settings_io, reid_edge.cli.main
pipeline.config.config_class()
for line in sys.stdin:
    module, slow, arguments, folder, output, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv[1:] = arguments
        try:
            code = importlib.import_module(module).main(arguments)
        except SystemExit as end:
            code = end.code
        print("imported", *[name for name in slow if name in sys.modules], file=sys.stderr)
        sys.exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Run = Callable[..., tuple[int, str, str]]
Check = Callable[..., str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a command; return its exit code, its output, and its errors with what is imported."""
    folder = tmp_path_factory.mktemp("said")
    paths = folder / "output", folder / "errors"
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        given, codes = process.stdin, process.stdout

        def run(
            module: str, *arguments: str, cwd: Path, slow: Sequence[str] = SLOW
        ) -> tuple[int, str, str]:
            request = [module, slow, arguments, str(cwd), *map(str, paths)]
            given.write(json.dumps(request) + "\n")
            given.flush()
            code = int(codes.readline())
            output, errors = (path.read_text() for path in paths)
            return code, output, errors

        yield run
        given.close()


@pytest.fixture
def check(run: Run, tmp_path: Path) -> Check:
    """Run a command, check that it imports nothing slow; return its output and errors."""

    def check(module: str, *arguments: str, code: int) -> str:
        found, output, said = run(module, *arguments, cwd=tmp_path)
        errors, _, imported = said.rstrip("\n").rpartition("\n")
        assert (found, imported) == (code, "imported")
        return output + errors

    return check


@pytest.mark.parametrize(
    "command", [[], ["run"], ["search"], ["export"], ["doctor"], *([name] for name in COMMANDS)]
)
def test_help(command: list[str], check: Check) -> None:
    text = check("reid_edge.cli.main", *command, "--help", code=0)
    assert text.startswith("usage: reid-edge ")


def test_models(run: Run, tmp_path: Path) -> None:
    slow = ("torch", "torchvision", "numpy")
    code, output, errors = run("reid_edge.cli.main", "models", cwd=tmp_path, slow=slow)
    assert "osnet_x0_5" in output
    assert (code, errors) == (0, "imported\n")


def test_version(check: Check) -> None:
    assert "reid-edge " in check("reid_edge.cli.main", "--version", code=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND; see --help"),
        (["verfy"], "argument COMMAND: unknown 'verfy': did you mean 'verify'?"),
        (["verify"], "the following arguments are required: --img1, --img2"),
        (["evaluate", "--data"], "argument --data: expected one argument"),
        (["models", "--height", "x"], "argument --height: invalid int value: 'x'"),
        (["run", "--plam"], "unknown option --plam: did you mean --plan?"),
        (["search"], "the following arguments are required: --run"),
    ],
)
def test_bad_arguments(arguments: list[str], words: str, check: Check) -> None:
    line = check("reid_edge.cli.main", *arguments, code=2)
    assert line.startswith(f"error: {words}")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plam"], "unknown option --plam: did you mean --plan?"),
        (["--report"], "--report needs --run FOLDER"),
        (["--report", "--run", "none"], "none: no run there (no config.yaml in it)"),
        (["--plan", "--run", "none"], "none: no run there; give --config FILE"),
        (["--config", "nowhere"], "nowhere: cannot read this configuration"),
        (["--config-name", "nowhere"], "configs/nowhere.yaml: cannot read this configuration"),
        ([*FACE, "-cn", "face"], "argument --config-name/-cn: not allowed with argument --config"),
        (
            [*FACE, "--stages", "qantize"],
            "unknown stage 'qantize': did you mean 'quantize'?",
        ),
        ([*FACE, "--stages", "quantize,train"], "stages out of order: quantize,train"),
        ([*FACE, "--plan", "--from", "tune"], "--from tune: unknown stage"),
        (
            [*FACE, "prune.iteration=3"],
            "unknown setting 'prune.iteration'; did you mean",
        ),
        (
            [*FACE, "prune.iterations=x"],
            "prune.iterations: input should be a valid integer",
        ),
        (
            [*FACE, "model.architecture=osnet_x2"],
            "model.architecture: unknown architecture 'osnet_x2'",
        ),
        ([*FACE, "prune.criterion=l3"], "prune.criterion: "),
        (["--plan", *FACE, "--run", "taken"], "taken: holds files, but no run"),
        (["--plan", *FACE, "data.root=.", "train.patience=2"], "train.patience: there is no"),
        (["--plan", *FACE, "data.root=.", *NO_LOSSES], "train: nothing to learn from, every loss"),
        (["train.nosuch=1"], "unknown setting 'train.nosuch'; see docs"),
    ],
)
def test_bad_settings(arguments: list[str], words: str, check: Check, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    text = check("pipeline.command", *arguments, code=2)
    assert text.splitlines()[-1].startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compress", "none.pt", "--images", "."], "none.pt: no such file"),
        (["compress", "other", "--images", "."], "other: not a model file that is known"),
        (["export", "none.pt", "--images", "."], "none.pt: no such file"),
        (["doctor", "none.pt", "none.onnx", "--images", "."], "none.pt: no such file"),
        (["benchmark", "none.onnx"], "none.onnx: no such file"),
        (["benchmark", "--read", "none.json"], "none.json: cannot be read"),
        (["sweep", "none.yaml"], "none.yaml: cannot read this configuration"),
        (["sweep"], "the following arguments are required: FILE; see --help"),
    ],
)
def test_files_that_are_not_there(
    arguments: list[str], words: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("a text")
    slow = ("torch", "torchvision", "lightning", "nni", "onnx", "onnxruntime", "pandas")
    code, _, errors = run("reid_edge.cli.main", *arguments, cwd=tmp_path, slow=slow)
    line, _, imported = errors.rstrip("\n").rpartition("\n")
    assert (code, imported) == (2, "imported")
    assert line.startswith(f"error: {words}")
    assert "\n" not in line


def test_help_of_the_pipeline(check: Check) -> None:
    text = check("pipeline.command", "--help", code=0)
    assert text.startswith("usage: run_pipeline.py ")

"""Help texts and bad arguments come at once: nothing that is slow to import is imported."""

import subprocess
import sys
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
RUN = """
import sys
from {module} import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print("imported", *[name for name in {slow} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def check(module: str, *arguments: str, code: int, cwd: Path) -> str:
    """Run a command, check that it imports nothing slow; return its output and errors."""
    program = RUN.format(module=module, slow=SLOW)
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    errors, _, imported = done.stderr.rstrip("\n").rpartition("\n")
    assert (done.returncode, imported) == (code, "imported")
    return done.stdout + errors


@pytest.mark.parametrize(
    "command", [[], ["run"], ["search"], ["export"], ["doctor"], *([name] for name in COMMANDS)]
)
def test_help(command: list[str], tmp_path: Path) -> None:
    text = check("reid_edge.cli.main", *command, "--help", code=0, cwd=tmp_path)
    assert text.startswith("usage: reid-edge ")


def test_models(tmp_path: Path) -> None:
    program = RUN.format(module="reid_edge.cli.main", slow=("torch", "torchvision", "numpy"))
    done = subprocess.run(
        [sys.executable, "-c", program, "models"],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "osnet_x0_5" in done.stdout
    assert done.stderr == "imported\n"


def test_version(tmp_path: Path) -> None:
    assert "reid-edge " in check("reid_edge.cli.main", "--version", code=0, cwd=tmp_path)


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
def test_bad_arguments(arguments: list[str], words: str, tmp_path: Path) -> None:
    line = check("reid_edge.cli.main", *arguments, code=2, cwd=tmp_path)
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
def test_bad_settings(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    text = check("pipeline.command", *arguments, code=2, cwd=tmp_path)
    assert text.splitlines()[-1].startswith(f"error: {words}")


def test_help_of_the_pipeline(tmp_path: Path) -> None:
    text = check("pipeline.command", "--help", code=0, cwd=tmp_path)
    assert text.startswith("usage: run_pipeline.py ")

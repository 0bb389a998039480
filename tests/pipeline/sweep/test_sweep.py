"""A sweep: its settings, its trials, workers that die, and what it leaves."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sweep.sweep_settings import SweepSettings, read_sweep
from reid_edge.core.errors import PipelineError

CONFIG = """
name: tiny
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: short_osnet_x0_25, embedding_dim: 16}}
train: {{epochs: 1, identities_per_batch: 4, images_per_identity: 3}}
"""
SWEEP = """
config: {config}
folder: {folder}
stages: [train]
parameters:
  train.learning_rate: [1.0e-3, 2.0e-3]
  seed: [0, 1]
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return write_file


def test_the_sweep_that_is_shipped() -> None:
    sweep = read_sweep(Path("sweep"), {})
    assert sweep.count == 12 == len(sweep.grid())
    assert sweep.grid()[:2] == [
        {"prune.criterion": "reconstruction", "prune.iterations": 1, "seed": seed}
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x", "no sweep; expected a key 'parameters'"),
        ("parameters: {}", "parameters: "),
        ("parameters: {prune.iteration: [1]}", "unknown setting 'prune.iteration'; did you mean"),
        ("parameters: {prune.iterations: [1, x]}", "prune.iterations: input should be a valid int"),
        ("parameters: {seed: [1, 1]}", "seed has a value twice"),
        ("parameters: {seed: []}", "seed has no values"),
        ("parameters: {seed: [1]}\nsettings: {seed: 2}", "seed is varied, and is in settings too"),
        ("parameters: {seed: {low: 1, high: 3}}", "seed is a range; list its values, or take samp"),
        ("parameters: {seed: {low: 3, high: 1}}\nsampler: tpe", "low must be below high"),
        ("parameters: {seed: [1]}\nsampler: tpe", "sampler tpe needs trials, a number"),
        ("parameters: {seed: [1]}\nsampler: best", "sampler: input should be 'grid', 'random' or"),
        ("parameters: {seed: [1]}\ntrial: 3", "trial: unknown key; did you mean 'trials'? known"),
        ("parameters: {seed: [1]}\nfoo: 3", "foo: unknown key; known are config, folder, stages, "),
        (
            "parameters: {seed: 3}",
            "parameters.seed: expected a list of values, or a range, found 3",
        ),
        (
            "parameters: {seed: {low: 1, hihg: 3}}\nsampler: tpe",
            "parameters.seed: high: field required; a range is {low, high}, with log or step",
        ),
        (
            "parameters: {seed: {low: 1, high: 3, by: 2}}\nsampler: tpe",
            "parameters.seed: unknown key 'by' of a range; a range is {low, high}, with log",
        ),
        ("parameters: {seed: [{a: 1}]}", "parameters.seed: input should be a valid"),
        ("parameters: {seed: [1]}\nsettings: 3", "settings: expected settings by full name, foun"),
        (
            "parameters: {seed: [1]}\nmeasure: map",
            "measure: input should be 'mAP', 'rank1', 'rank5'",
        ),
        ("parameters: {seed: [1]}\nstage: finetun", "stage: 'finetun' is none of the stages train"),
        ("parameters: [seed]", "parameters: expected a list of values, or a range"),
        ("parameters: {seed: [1]}\nconfig: nowhere", "nowhere: cannot read this configuration"),
        ("parameters: {seed: [1]\n", "cannot be read as YAML"),
    ],
)
def test_bad_settings(write: Callable[[str], Path], text: str, words: str) -> None:
    with pytest.raises(PipelineError) as error:
        read_sweep(write(text), {})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_without_optuna_there_is_one_line(
    write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    from pipeline.sweep.sweep_command import main

    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    path = write(f"parameters: {{seed: [0]}}\nfolder: {tmp_path / 'sweep'}")
    assert main([str(path)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert "reid-edge sweep: needs the package optuna" in line
    assert not (tmp_path / "sweep").exists()


def test_trials_dead_workers_and_the_page(
    short_networks: None, tiny_market: Path, tmp_path: Path, write: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip("optuna")
    from pipeline.sweep.study import SweepStudy
    from pipeline.sweep.sweep_command import main

    config, folder = tmp_path / "tiny.yaml", tmp_path / "sweep"
    config.write_text(CONFIG.format(root=tiny_market))
    path = write(SWEEP.format(config=config, folder=folder))
    sweep = read_sweep(path, {})
    folder.mkdir()
    (folder / "sweep.json").write_text(sweep.model_dump_json())

    # A worker takes the first trial and is killed.
    if (child := os.fork()) == 0:
        with SweepStudy(folder, sweep).take() as taken:
            os.kill(os.getpid(), signal.SIGKILL if taken else signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    study = SweepStudy(folder, sweep)
    assert [(one.number, one.state) for one in study.trials()] == [(0, "running")]
    # Another one works: it has the dead one's trial, and a third one gets the next.
    with study.take() as first, SweepStudy(folder, sweep).take() as second:
        assert first is not None
        assert second is not None
        assert (first.number, first.values) == (0, {"train.learning_rate": 1e-3, "seed": 0})
        assert (second.number, second.values) == (1, {"train.learning_rate": 1e-3, "seed": 1})
    study.fail(second, "no room")

    assert main([str(path)]) == 1
    captured = capsys.readouterr()
    table = json.loads((folder / "trials.json").read_text())
    assert [one["state"] for one in table] == ["complete"] * 3 + ["fail"]
    assert sorted(one["number"] for one in table) == [0, 1, 2, 3]
    assert table == sorted(table, key=lambda one: -(one["measured"] or 0))
    assert "trial-0001 failed: no room" in captured.out
    page = (folder / "comparison.html").read_text()
    for one in table[:3]:
        # An ordinary run.
        report = json.loads((folder / one["run"] / "report.json").read_text())
        assert report["rows"][-1]["accuracy"]["mAP"] == one["measured"]
        assert report["seed"] == one["values"]["seed"]
        assert "pipeline.engine: train: done" in (folder / one["run"] / "run.log").read_text()
        assert one["run"] in page

    # Nothing is left to do; another sweep is refused, more trials are not.
    before = study.trials()
    assert main([str(path)]) == 1
    assert study.trials() == before
    write(SWEEP.format(config=config, folder=folder).replace("[0, 1]", "[0, 2]"))
    assert main([str(path)]) == 2
    assert "holds a sweep with another parameters; choose another folder" in capsys.readouterr().err


def test_files_of_a_sweep_that_are_damaged_or_changed(
    tmp_path: Path, write: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    from pipeline.sweep.study import SweepStudy
    from pipeline.sweep.sweep_command import main

    config, folder = tmp_path / "tiny.yaml", tmp_path / "sweep"
    # Every trial fails at once.
    config.write_text(CONFIG.format(root=tmp_path / "nowhere").replace("short_osnet", "osnet"))
    path = write(SWEEP.format(config=config, folder=folder))
    assert main([str(path)]) == 1
    assert "trial-0003 failed: " in capsys.readouterr().out
    # A machine stopped while it wrote a line.
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code": 4, "worker')
    study = SweepStudy(folder, read_sweep(path, {}))
    assert [one.state for one in study.trials()] == ["fail"] * 4
    assert main([str(path)]) == 1
    capsys.readouterr()
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 2"))
    assert main([str(path)]) == 2
    assert "has changed since the first trial of" in capsys.readouterr().err
    (folder / "sweep.json").write_text("{")
    assert main([str(path)]) == 2
    assert "sweep.json: damaged, or of an earlier version; choose" in capsys.readouterr().err


def test_a_trial_that_a_dead_worker_drew_in_part(tmp_path: Path) -> None:
    """The values that were not drawn yet are those that it would have drawn."""
    pytest.importorskip("optuna")
    from pipeline.sweep.study import SweepStudy

    ranges = {name: {"low": 1e-4, "high": 1e-1} for name in ("train.learning_rate", "seed")}
    sweep = SweepSettings.model_validate(
        {"parameters": ranges, "sampler": "random", "trials": 2, "seed": 3}
    )
    values = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        study = SweepStudy(tmp_path / name, sweep)
        if name == "broken":
            study._ask(0)  # and died
            study = SweepStudy(tmp_path / name, sweep)
        with study.take() as trial:
            assert trial is not None
            values.append(trial.values)
    assert values[0] == values[1]


def test_proposals_depend_on_the_seed_and_the_results_alone(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    from pipeline.sweep.study import SweepStudy

    sweep = SweepSettings.model_validate(
        {
            "parameters": {
                "train.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
                "prune.iterations": {"low": 1, "high": 9, "step": 2},
                "prune.criterion": ["l1", "l2"],
            },
            "sampler": "tpe",
            "trials": 14,
        }
    )
    proposed = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found = []
        for _ in range(sweep.count):
            # A new process would open the study anew.
            study = SweepStudy(tmp_path / name, sweep)
            with study.take() as trial:
                assert trial is not None
                found.append(trial.values)
                study.finish(trial, float(trial.values["train.learning_rate"] or 0))
        with study.take() as none:
            assert none is None
        proposed.append(found)
    assert proposed[0] == proposed[1]
    assert all(one["prune.iterations"] in (1, 3, 5, 7, 9) for one in proposed[0])
    assert len({one["train.learning_rate"] for one in proposed[0]}) == sweep.count

"""The search on a tiny run: layout, one score, and, slowly, the whole command."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.command import main as run_pipeline
from pipeline.run_dir import RunDir
from pipeline.run_images import split_validation
from pipeline.search.outcome import finish
from pipeline.search.score import compact_model, mean_average_precision
from pipeline.search.search_command import main
from pipeline.search.set_up import set_up_search
from pipeline.search.task import IMAGES, Task, read_task
from pipeline.search.variables import default_variables
from pipeline.settings_io import load_config
from prune.layer_widths import layer_widths
from prune.plan_file import read_plan
from prune.search.history import Trial
from prune.search.space import make_space
from prune.width_options import width_options
from reid_edge.core.cost import model_cost
from reid_edge.core.errors import PipelineError, PruneError
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.models.checkpoint import read_torch_file
from reid_edge.models.registry import build_model

pytestmark = pytest.mark.medium

CONFIG = """
name: tiny
threads: 1
data: {{root: {root}, height: 64, width: 32, workers: 0}}
model: {{architecture: {architecture}, embedding_dim: 32}}
train: {{epochs: 0}}
prune: {{target: {target}, iterations: 2}}
search: {{trials: 2, held_back: 3, reconstruction_images: 8}}
"""


def train(folder: Path, images: Path, architecture: str, target: str) -> Path:
    """Make a run whose stage train is done; its configuration is beside it."""
    content = CONFIG.format(root=images, architecture=architecture, target=target)
    (folder / "tiny.yaml").write_text(content)
    code = run_pipeline(
        ["--config", str(folder / "tiny.yaml"), "--stages", "train", "--run", str(folder / "run")]
    )
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def trained(
    short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train(
        tmp_path_factory.mktemp("search"), tiny_market, "short_osnet_x0_5", "short_osnet_x0_25"
    )


@pytest.fixture(scope="module")
def few_layers(
    short_networks: None, tiny_market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of a network that is traced in a fraction of the time."""
    return train(tmp_path_factory.mktemp("few"), tiny_market, "small_net", "small_net_x0_5")


@pytest.fixture
def run(few_layers: Path, tmp_path: Path) -> RunDir:
    """A run of the test's own whose stage train is done."""
    shutil.copytree(few_layers / "run", tmp_path / "run")
    return RunDir(tmp_path / "run")


@pytest.fixture
def osnet_run(trained: Path, tmp_path: Path) -> RunDir:
    shutil.copytree(trained / "run", tmp_path / "run")
    return RunDir(tmp_path / "run")


@pytest.fixture(scope="module")
def task(trained: Path) -> Task:
    config = load_config(trained / "run" / "config.yaml")
    return read_task(set_up_search(config, RunDir(trained / "run")).task)


@pytest.fixture(scope="module")
def candidate(task: Task) -> tuple[dict[str, int], nn.Module]:
    """The first candidate: its widths and its compact model."""
    space = task.space()
    widths = space.widths(dict.fromkeys(space.variables, 0.65))
    return widths, compact_model(task, widths)


def test_what_is_held_back_is_neither_tested_on_nor_reconstructed_on(
    task: Task, tiny_market: Path
) -> None:
    data = read_market1501(tiny_market)
    held_back = set(task.query.persons.tolist()) | set(task.gallery.persons.tolist())
    assert len(held_back) == 3
    assert held_back <= {image.person for image in data.train}
    assert not held_back & {image.person for image in (*data.query, *data.gallery)}
    rest = [image for image in data.train if image.person not in held_back]
    assert 0 < len(task.reconstruction) <= min(8, len(rest))


def test_a_cut_that_removes_nothing_changes_nothing(task: Task) -> None:
    # One channel less in three cuts: two of them remove nothing.
    name = next(name for name in layer_widths(task.model) if name.endswith("gate.fc1"))
    widths = {name: layer_widths(task.model)[name] - 1}
    once, thrice = (
        compact_model(with_iterations(task, iterations), widths)(task.reconstruction[:4]).detach()
        for iterations in (1, 3)
    )
    assert torch.allclose(once, thrice, atol=1e-4 * float(once.abs().max()))


def with_iterations(task: Task, iterations: int) -> Task:
    return replace(task, settings=task.settings.model_copy(update={"iterations": iterations}))


def test_the_first_candidate_is_the_stock_target_and_scores_the_same_twice(
    task: Task, candidate: tuple[dict[str, int], nn.Module]
) -> None:
    widths, compact = candidate
    stock = build_model("short_osnet_x0_25", num_classes=8, embedding_dim=32)
    assert widths == layer_widths(stock) | {"classifier": 8}
    stock.load_state_dict(compact.state_dict(), strict=True)
    score = mean_average_precision(task, compact)
    assert 0 < score <= 1
    assert mean_average_precision(task, compact_model(task, widths)) == score


def test_candidates_are_cut_by_the_criterion_of_the_run(
    task: Task, candidate: tuple[dict[str, int], nn.Module]
) -> None:
    widths, plain = candidate
    settings = task.settings.model_copy(update={"criterion": "reconstruction"})
    ours = compact_model(replace(task, settings=settings), widths)
    assert layer_widths(ours) == layer_widths(plain)
    assert not torch.equal(
        ours.state_dict()["conv1.conv.weight"], plain.state_dict()["conv1.conv.weight"]
    )


def test_the_plan_is_what_the_best_trial_scored(task: Task, tmp_path: Path) -> None:
    even = dict.fromkeys(task.settings.variables, 0.65)
    trials = [Trial(0, even, 0.3), Trial(1, even | {"conv4": 1.0}, 0.5), Trial(2, even, 0.4)]
    outcome = finish(tmp_path, task, trials)
    plan = read_plan(outcome.plan)
    widths = task.space().widths(trials[1].sample)
    assert {**plan.widths, "classifier": 8} == widths
    assert plan.architecture == "short_osnet_x0_5"
    assert plan.input_size == (64, 32)
    assert plan.macs <= task.settings.macs
    cost = model_cost(compact_model(task, plan.widths), torch.zeros(1, 3, 64, 32))
    assert (plan.macs, plan.parameters) == (cost.macs, cost.parameters)
    assert len(outcome.table.rows) == 4


def test_a_search_that_is_running_is_not_set_aside(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_search(load_config(run.config_path), run)
    with RunDir(run.path / "search").locked():
        assert main(["--run", str(run.path), "search.held_back=4"]) == 2
    assert f"{run.path / 'search'}: in use by process" in " ".join(capsys.readouterr().err.split())
    assert (run.path / "search" / "search.json").is_file()
    assert not (run.path / "superseded").exists()


def test_a_limit_of_another_family_is_refused(
    short_networks: None, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    content = CONFIG.format(root=tiny_market, architecture="small_net", target="osnet_x0_25")
    config.write_text(content)
    arguments = ["--config", str(config), "--run", str(tmp_path / "run")]
    assert run_pipeline([*arguments, "--stages", "train", "prune.target=small_net"]) == 0
    capsys.readouterr()
    assert main(["--run", str(tmp_path / "run"), "prune.target=osnet_x0_25"]) == 2
    assert "osnet_x0_25 is no narrower small_net" in " ".join(capsys.readouterr().err.split())


def test_the_same_settings_go_on_and_others_set_aside(run: RunDir) -> None:
    config = load_config(run.config_path)
    search = set_up_search(config, run)
    (search.folder / "trials.jsonl").write_text("")
    more = load_config(run.config_path, ["search.trials=9", "search.concurrency=2"])
    set_up_search(more, run)
    assert (search.folder / "trials.jsonl").exists()
    set_up_search(load_config(run.config_path, ["search.macs=0.5"]), run)
    assert not (search.folder / "trials.jsonl").exists()
    assert (run.path / "superseded" / "search-1" / "trials.jsonl").exists()


def test_a_search_is_resumed_when_its_plan_is_the_target(run: RunDir) -> None:
    search = set_up_search(load_config(run.config_path), run)
    (search.folder / "trials.jsonl").write_text("")
    plan = ["search.trials=9", f"prune.target={search.folder / 'plan.json'}"]
    again = set_up_search(load_config(run.config_path, plan), run)
    assert again.settings == search.settings
    assert (search.folder / "trials.jsonl").exists()


def test_threads_may_change_when_a_search_is_resumed(run: RunDir) -> None:
    search = set_up_search(load_config(run.config_path), run)
    (search.folder / "trials.jsonl").write_text("")
    again = set_up_search(load_config(run.config_path, ["threads=2"]), run)
    assert (search.folder / "trials.jsonl").exists()
    assert read_task(again.task).settings.threads == 2
    with (
        RunDir(search.folder).locked(),
        pytest.raises(PipelineError, match="in use by process"),
    ):
        set_up_search(load_config(run.config_path, ["threads=3"]), run)
    assert read_task(again.task).settings.threads == 2


def test_identities_set_apart_have_no_say(run: RunDir, tiny_market: Path) -> None:
    config = load_config(run.config_path, ["data.validation_share=0.25"])
    _, apart = split_validation(config, read_market1501(tiny_market))
    assert apart is not None
    judging = {image.person for image in (*apart.query, *apart.gallery)}
    images = read_torch_file(set_up_search(config, run).task / IMAGES)
    seen = {person for packed in images.values() for person in packed["persons"].tolist()}
    assert len(judging) == 2
    assert len(seen) == 6
    assert not seen & judging


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.macs=0.0001", "cannot be met: the narrowest model"),
        ("search.variables={all: [conv9]}", "search variable 'all': 'conv9' fits no layer"),
    ],
)
def test_what_no_trial_could_do_is_refused_at_once(run: RunDir, override: str, words: str) -> None:
    with pytest.raises(PruneError, match=words):
        set_up_search(load_config(run.config_path, [override]), run)
    assert not (run.path / "superseded").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("search.variables={}", "search.variables: .*at least 1"),
        ("search.held_back=1", "search.held_back: .*greater than or equal to 2"),
    ],
)
def test_settings_of_a_search_that_cannot_be(run: RunDir, override: str, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        load_config(run.config_path, [override])


def test_a_limit_may_be_a_share_of_the_full_width(run: RunDir) -> None:
    search = set_up_search(load_config(run.config_path, ["search.macs=0.5"]), run)
    full = model_cost(read_task(search.task).model, torch.zeros(1, 3, 64, 32)).macs
    assert search.settings.macs == full // 2


def test_a_target_without_macs_of_its_own_needs_a_share(run: RunDir) -> None:
    config = load_config(run.config_path, ["prune.target=0.6"])
    with pytest.raises(PipelineError, match=r"search.macs: give the limit as a share"):
        set_up_search(config, run)


def test_a_pattern_that_fits_nothing_is_refused_by_its_own_name(run: RunDir) -> None:
    config = load_config(run.config_path, ["search.untouched=[conv9]"])
    with pytest.raises(PruneError, match=r"^search.untouched: 'conv9' fits no layer"):
        set_up_search(config, run)


def test_too_few_identities_are_refused(run: RunDir) -> None:
    config = load_config(run.config_path, ["search.held_back=8"])
    with pytest.raises(PipelineError, match=r"search.held_back: 8 identities .* of the 8"):
        set_up_search(config, run)
    assert not (run.path / "superseded").exists()


@pytest.mark.parametrize(
    ("architecture", "names"),
    [
        ("osnet_x0_5", ["conv1", "conv2", "conv3", "conv4", "conv5", "hidden"]),
        (
            "osnet_ain_x0_5",
            ["conv1", "conv2", "conv3", "conv4", "conv5", "hidden", "pool2", "pool3"],
        ),
        ("resnet18_x0_5", ["layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_every_layer_that_may_be_cut_has_one_variable(architecture: str, names: list[str]) -> None:
    free = width_options(
        build_model(architecture),
        torch.zeros(2, 3, 64, 32),
        cost_example=torch.zeros(1, 3, 64, 32),
    )
    patterns = default_variables(architecture, free)
    assert sorted(patterns) == names
    space = make_space(free, patterns, 10**9)
    moved = [unit for units in space.variables.values() for unit in units]
    assert sorted(map(id, moved)) == sorted(map(id, free.units))


def test_a_run_without_a_trained_model_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(trained / "tiny.yaml")
    assert main(["--config", config, "--run", str(tmp_path / "new")]) == 2
    assert "new: stage train is not finished, and the search starts" in capsys.readouterr().err


def test_a_machine_that_is_none_is_refused_before_anything_runs(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = "search.machines=[{address: nowhere, key_file: key, python: /usr/bin/python}]"
    assert main(["--run", str(run.path), machine]) == 2
    assert "'nowhere' is no machine; expected user@host" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_searches_and_resumes(
    osnet_run: RunDir, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = osnet_run
    assert main(["--run", str(run.path)]) == 0
    plan = read_plan(run.path / "search" / "plan.json")
    history = (run.path / "search" / "trials.jsonl").read_text()
    assert "1 (uniform)" in capsys.readouterr().out
    assert main(["--run", str(run.path), "search.trials=3"]) == 0
    lines = (run.path / "search" / "trials.jsonl").read_text()
    assert lines.startswith(history)
    log = (run.path / "search" / "run.log").read_text()
    assert log.count("DEBUG pipeline.run_log: command: ") == 2
    assert "trial 1 of 2: mAP" in log
    assert "trial 3 of 3: mAP" in log
    scores = [json.loads(line) for line in lines.splitlines() if "score" in line]
    assert len(scores) == 3
    quarter = build_model("osnet_x0_25", embedding_dim=32)
    assert plan.macs <= model_cost(quarter, torch.zeros(1, 3, 64, 32)).macs
